"""The commands that show providers: providers list and providers check.

Both read outrider.toml and nothing of a running server. `check` sends real requests of a few
tokens; neither shows a key.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from outrider.cli_settings import say, with_settings
from outrider.config import Configuration
from outrider.config_providers import LOCAL
from outrider.errors import ConfigError

if TYPE_CHECKING:
    from outrider.config_providers import ModelConfig, ProviderConfig
    from outrider.gateway.probe import Report

AT_ONCE = 8

app = typer.Typer(help="Show the providers of outrider.toml, and ask them what they can do.")

Names = Annotated[
    Optional[list[str]],  # noqa: UP045 - read by typer
    typer.Argument(help="Providers to check; all without one.", metavar="[NAME]..."),
]


@app.command("list")
@with_settings()
def list_all(settings: Configuration) -> None:
    """List the providers, their models, prices and limits."""
    from rich.console import Console
    from rich.table import Table

    table = Table(
        "provider", "kind", "model", "upstream", "USD per M tokens", "context", "key", "address",
        box=None, pad_edge=False,
    )  # fmt: skip
    for provider in _providers(settings):
        for model in provider.models:
            table.add_row(
                provider.name,
                provider.table.kind,
                model.name,
                model.upstream,
                f"{model.price.prompt / 1e6:g} / {model.price.completion / 1e6:g}",
                f"{model.context_length:,}" if model.context_length else "?",
                _key(provider),
                provider.table.base_url or "-",
            )
    # Names are for copying: a pipe and a narrow terminal get them whole.
    Console().print(table, soft_wrap=True)


@app.command()
@with_settings()
def check(settings: Configuration, names: Names = None) -> None:
    """Send each model of each provider a few short requests and say what it can do.

    Ends with code 1 if a provider doesn't answer or can't do what the file says.
    """
    from rich.console import Console
    from rich.table import Table

    chosen = _chosen(settings, names or [])
    reports = asyncio.run(_ask(chosen))
    table = Table("provider", "model", "answers", "can", "can't", box=None, pad_edge=False)
    is_good = True
    for (provider, model), report in zip(_models(chosen), reports, strict=True):
        is_good = is_good and not report.fault and not report.failed
        failed = "; ".join(f"{name}: {why}" for name, why in report.failed)
        answers = f"no: {report.fault}" if report.fault else f"in {report.answer_s:.2f} s"
        table.add_row(provider.name, model.name, answers, ", ".join(report.proven), failed)
    Console().print(table, soft_wrap=True)
    if not is_good:
        raise typer.Exit(1)


def _providers(settings: Configuration) -> tuple[ProviderConfig, ...]:
    if not settings.providers:
        raise ConfigError(
            "there are no providers; add a [providers.NAME] table to outrider.toml, or name the "
            "file with --config"
        )
    return settings.providers


def _chosen(settings: Configuration, names: list[str]) -> list[ProviderConfig]:
    """Give the remote providers of some names; refuses unknown ones."""
    from outrider.config import nearest

    remote = {one.name: one for one in _providers(settings) if one.name != LOCAL}
    for name in names:
        if name not in remote:
            raise ConfigError(f"there is no provider {name!r} to check{nearest(name, remote)}")
    if not remote:
        raise ConfigError("there are no remote providers to check")
    return [remote[name] for name in names] if names else list(remote.values())


def _models(providers: list[ProviderConfig]) -> list[tuple[ProviderConfig, ModelConfig]]:
    return [(provider, model) for provider in providers for model in provider.models]


async def _ask(providers: list[ProviderConfig]) -> list[Report]:
    from outrider.gateway.probe import Report, probe, probe_vectors
    from outrider.gateway.remote_hosts import RemoteHosts

    hosts = RemoteHosts()
    slots = asyncio.Semaphore(AT_ONCE)

    async def ask(provider: ProviderConfig, model: ModelConfig) -> Report:
        try:
            async with slots:
                if model.makes_embeddings:
                    return await probe_vectors(hosts.build_embedder(provider, model))
                return await probe(hosts.build(provider, model).provider, model.capabilities)
        except ConfigError as error:
            return Report(error.message)

    pairs = _models(providers)
    say(f"asking {len(pairs)} models …")
    try:
        return list(await asyncio.gather(*(ask(*pair) for pair in pairs)))
    finally:
        await hosts.close()


def _key(provider: ProviderConfig) -> str:
    """Say whether the key of a provider is there."""
    if provider.api_key is None:
        return "none"
    try:
        provider.api_key.reveal()
    except ConfigError:
        return f"{provider.api_key.variable} isn't set"
    return provider.api_key.variable
