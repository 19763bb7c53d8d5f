"""The engine: takes requests, advances all of them by one forward pass per step.

Owns every sequence and is used by one thread. Knows no wire and no process, and time only by the
clock it is given; without one no step's time is bounded. A bad request is refused when it is
submitted; after that only its own model output can make it fail.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from collections.abc import Sequence as Items
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from outrider import kernels
from outrider.config import EngineConfig
from outrider.engine.appender import Added, Appender
from outrider.engine.block_manager import BlockManager, KvLayout
from outrider.engine.detokenizer import Detokenizer, NoText
from outrider.engine.grammar import Grammars
from outrider.engine.image_encoder import ImageEncoder, TileRunner
from outrider.engine.prompt_images import PromptImages
from outrider.engine.protocol import Rejected, SequenceOutput, Stats, Submit
from outrider.engine.sampler import Sampler, SamplerState
from outrider.engine.scheduler import Plan, Scheduler
from outrider.engine.sequence import CacheRoot, LogprobBuffer, Sequence, SequenceId, to_token_array
from outrider.engine.speculation import Speculation
from outrider.engine.step_time import Allowance
from outrider.engine.verification import Draws
from outrider.errors import ContextLengthExceeded, EngineFailed, InvalidRequest
from outrider.model.batch import Batch
from outrider.text.tokenizer import Tokenizer


class Runner(TileRunner, Protocol):
    """The engine's view of a model and its KV cache."""

    @property
    def block_size(self) -> int:
        """Tokens per block."""
        ...

    @property
    def num_blocks(self) -> Items[int]:
        """Blocks of each KV group."""
        ...

    @property
    def chunk_sizes(self) -> Items[int]:
        """Positions per chunk of each KV group; 0: a group that sees everything comes first."""
        ...

    @property
    def vocab_size(self) -> int:
        """Length of a row of logits."""
        ...

    @property
    def max_model_len(self) -> int:
        """Longest sequence that the model can attend over, in tokens."""
        ...

    def forward(self, batch: Batch) -> NDArray[np.float32]:
        """Compute the batch; give logits [R, V], which the caller may overwrite."""
        ...


def make_layout(runner: Runner, config: EngineConfig) -> KvLayout:
    """Describe the runner's pools to the block manager."""
    num_blocks = dict(zip(runner.chunk_sizes, runner.num_blocks, strict=True))
    num_full_blocks = num_blocks.pop(0, None)
    chunk_size, num_chunk_blocks = next(iter(num_blocks.items()), (0, 0))
    if num_full_blocks is None:
        longest = -(-runner.max_model_len // runner.block_size)
        num_full_blocks = longest * config.max_num_seqs
    return KvLayout(
        block_size=runner.block_size,
        num_full_blocks=num_full_blocks,
        num_chunk_blocks=num_chunk_blocks,
        chunk_size=chunk_size,
        num_batched_tokens=config.max_num_batched_tokens,
        has_full_layers=0 in runner.chunk_sizes,
    )


class Engine:
    """Continuous batching over one runner; see `step`."""

    def __init__(
        self,
        runner: Runner,
        tokenizer: Tokenizer | None,
        config: EngineConfig,
        eos_token_ids: Iterable[int],
        clock: Callable[[], float] | None = None,
        context: kernels.Context | None = None,
    ) -> None:
        """Without a clock no step is bounded in time; without a context one thread samples."""
        self.runner = runner
        self.tokenizer = tokenizer
        layout = make_layout(runner, config)
        self.max_model_len = min(runner.max_model_len, layout.max_model_len)
        self._has_prefix_cache = config.prefix_cache
        self._eos_token_ids = frozenset(eos_token_ids)
        self._blocks = BlockManager(layout)
        self._clock = clock or _no_clock
        self._scheduler = Scheduler(
            self._blocks,
            config.max_num_seqs,
            config.max_num_batched_tokens,
            config.max_step_ms / 1000 if clock else 0.0,
        )
        self._images = ImageEncoder(runner, config.image_cache_mib << 20)
        self._text = tokenizer or NoText()
        self._sampler = Sampler(self._text, context)
        self._appender = Appender(self._text, self._eos_token_ids)
        self._speculation = Speculation(
            self._blocks, config.max_num_batched_tokens if config.speculation == "auto" else 0
        )
        self._grammars = Grammars(tokenizer, self._eos_token_ids)
        self._requests: dict[str, list[Sequence]] = {}
        self._failed: list[Rejected] = []
        self._next_seq_id = 0
        self._num_steps = 0
        self._num_prompt_tokens = 0
        self._num_cached_tokens = 0
        self._num_output_tokens = 0

    @property
    def has_work(self) -> bool:
        """Say whether a step would advance anything."""
        return bool(self._requests)

    def num_sequences(self, num_tokens: int) -> int:
        """Count the sequences of a length for which the KV cache has room at the same time."""
        return self._blocks.layout.num_sequences(num_tokens)

    def prepare_grammars(self) -> bool:
        """Do a part of what the first grammar would else wait for; say whether more is left."""
        return self._grammars.prepare()

    def submit(self, request: Submit) -> None:
        """Take a request, or raise a `RequestError` and keep nothing of it."""
        if request.request_id in self._requests:
            raise InvalidRequest(f"request id {request.request_id!r} is already running")
        if not request.prompts:
            raise InvalidRequest("a request needs at least one prompt", "prompt")
        for index, prompt in enumerate(request.prompts):
            name = "prompt" if len(request.prompts) == 1 else f"prompt[{index}]"
            self._check_prompt(prompt, name)
        self.check_token_ids(request.sampling.logit_bias, "logit_bias")
        self.check_token_ids(request.lookup_token_ids, "lookup_token_ids")
        if request.sampling.stop and self.tokenizer is None:
            raise InvalidRequest(
                "the model came without a tokenizer, so its answer has no text; leave stop out",
                "stop",
            )
        images = self._place_images(request)
        root: CacheRoot = ("shared", request.cache_salt)
        if not self._has_prefix_cache:  # then only choices of one request share blocks
            root = ("alone", self._next_seq_id)
        sequences: list[Sequence] = []
        for prompt_index in range(len(request.prompts)):
            sequences += self._make_choices(request, prompt_index, root)
        if images is not None:
            for sequence in sequences:
                sequence.images = images.for_choice()
        self._requests[request.request_id] = sequences

    def abort(self, request_id: str) -> None:
        """Drop a request and free its blocks at once; unknown ids are ignored."""
        for sequence in self._requests.pop(request_id, []):
            self._remove(sequence)

    def step(self) -> list[SequenceOutput]:
        """Advance every scheduled sequence by one forward pass, and one image by a tile at most."""
        plan = self._scheduler.schedule(spent_s=self._advance_images())
        if not plan.sequences:
            return []
        begin_s = self._clock()
        sequences = plan.sampled()
        self._speculation.draft(plan, sequences)
        logits = self.runner.forward(plan.build_batch(self._blocks))  # [R, V]
        draws = Draws(self._sampler, logits, sequences)
        time_s = self._clock() - begin_s
        self._scheduler.observe(plan, time_s)
        self._speculation.observe(time_s)
        return self._commit(plan, sequences, draws)

    def _advance_images(self) -> float:
        """Encode at most a tile, or as much of it as there is time for; give the time it took."""
        if not self._scheduler.waiting:
            return 0.0
        begin_s = self._clock()
        time = Allowance(self._clock, self._scheduler.side_time_s)
        waiting, num_known_tokens = self._scheduler.waiting, self._blocks.num_known_tokens
        self._images.advance(waiting, num_known_tokens, time.has_time)
        return self._clock() - begin_s

    def take_failed(self) -> list[Rejected]:
        """Give the requests that failed in the last steps; they have left the engine."""
        failed, self._failed = self._failed, []
        return failed

    def stats(self) -> Stats:
        """Give the counters since the start and the gauges of this moment."""
        num_seqs = sum(
            not sequence.is_finished
            for sequences in self._requests.values()
            for sequence in sequences
        )
        num_running = len(self._scheduler.running)
        return Stats(
            num_running=num_running,
            num_waiting=num_seqs - num_running,
            num_free_blocks=self._blocks.num_free_blocks,
            num_blocks=self._blocks.num_blocks,
            num_prompt_tokens=self._num_prompt_tokens,
            num_output_tokens=self._num_output_tokens,
            num_cached_tokens=self._num_cached_tokens,
            num_preemptions=self._scheduler.num_preemptions,
            num_steps=self._num_steps,
            num_drafted_tokens=self._speculation.num_drafted_tokens,
            num_accepted_tokens=self._speculation.num_accepted_tokens,
            num_encoded_images=self._images.num_encoded_images,
            num_encoded_tiles=self._images.num_encoded_tiles,
            image_cache_bytes=self._images.cache.num_bytes,
        )

    def check_integrity(self) -> None:
        """Raise AssertionError if a block leaked or is owned twice."""
        self._blocks.check_integrity(
            sequence for sequences in self._requests.values() for sequence in sequences
        )

    def check_token_ids(self, token_ids: Collection[int], param: str) -> None:
        """Raise `InvalidRequest` unless all ids are in the vocabulary."""
        low, high = min(token_ids, default=0), max(token_ids, default=0)
        if low < 0 or high >= self.runner.vocab_size:
            raise InvalidRequest(
                f"token id {low if low < 0 else high} is not in the vocabulary; ids are 0 to "
                f"{self.runner.vocab_size - 1}",
                param,
            )

    def _check_prompt(self, prompt: tuple[int, ...], param: str) -> None:
        if not prompt:
            raise InvalidRequest("the prompt is empty; send at least one token", param)
        if len(prompt) + 1 > self.max_model_len:
            raise ContextLengthExceeded(len(prompt), self.max_model_len, param)
        self.check_token_ids(prompt, param)

    def _place_images(self, request: Submit) -> PromptImages | None:
        if not request.images:
            return None
        if self.runner.vision is None:
            raise InvalidRequest("this is a text model; it takes no images", "images")
        if len(request.prompts) > 1:
            raise InvalidRequest("images belong to one prompt; send several requests", "images")
        images = PromptImages(request.images, request.prompts[0], self.runner.vision)
        self._images.check_fits(images)
        return images

    def _make_choices(self, request: Submit, prompt_index: int, root: CacheRoot) -> list[Sequence]:
        prompt, params = request.prompts[prompt_index], request.sampling
        length = self.max_model_len
        if params.max_tokens is not None:
            length = min(length, len(prompt) + params.max_tokens)
        choices = []
        for choice in range(params.n):
            index = prompt_index * params.n + choice
            matcher = None
            if request.grammar is not None:
                matcher = self._grammars.matcher(request.grammar)
            choices.append(
                Sequence(
                    id=SequenceId(self._next_seq_id, request.request_id, index, choice, root),
                    sampling=params,
                    token_ids=to_token_array(prompt),
                    num_prompt_tokens=len(prompt),
                    max_num_tokens=length,
                    sampler=SamplerState(params, choice, prompt, matcher),
                    detokenizer=Detokenizer(self._text, params.stop),
                    logprobs=None if params.logprobs is None else LogprobBuffer(),
                    lookup=request.lookup_token_ids,
                    is_background=request.is_background,
                )
            )
            self._next_seq_id += 1
        # The first choice computes the prompt, then the others find it in the prefix cache.
        choices[0].siblings = choices[1:]
        self._scheduler.add(choices[0])
        return choices

    def _commit(self, plan: Plan, sequences: list[Sequence], draws: Draws) -> list[SequenceOutput]:
        self._num_steps += 1
        self._scheduler.commit(plan)
        for sequence in plan.sequences:
            if sequence.images is not None and sequence.num_computed_tokens >= sequence.images.end:
                self._images.release(sequence.images)
        outputs = []
        for index, sequence in enumerate(sequences):
            if sequence.is_finished:  # another choice of its request has just failed
                continue
            added = self._appender.append(sequence, draws.of(index, sequence))
            if added.failure is None:
                self._speculation.settle(sequence, len(added.token_ids))
            if added.token_ids:
                self._count(sequence, added)
                outputs.append(added.output(sequence))
            if added.failure is not None:
                self._fail(sequence, added.failure)
            elif added.finish_reason is not None:
                self._finish(sequence)
        return outputs

    def _count(self, sequence: Sequence, added: Added) -> None:
        if len(added.token_ids) == sequence.num_output_tokens and sequence.id.choice == 0:
            self._num_prompt_tokens += sequence.num_prompt_tokens
            self._num_cached_tokens += sequence.num_cached_tokens or 0
        self._num_output_tokens += len(added.token_ids)

    def _finish(self, sequence: Sequence) -> None:
        self._remove(sequence)
        siblings = self._requests[sequence.id.request_id]
        if all(sibling.is_finished for sibling in siblings):
            del self._requests[sequence.id.request_id]

    def _remove(self, sequence: Sequence) -> None:
        sequence.is_finished = True
        self._scheduler.remove(sequence)
        if sequence.images is not None:
            self._images.release(sequence.images)

    def _fail(self, sequence: Sequence, grammar_failure: str) -> None:
        """Drop a request one of whose choices has no next token, and say why."""
        request_id = sequence.id.request_id
        self.abort(request_id)
        if grammar_failure:
            message = f"the answer can't go on as its grammar demands: {grammar_failure}"
            matcher = sequence.sampler.matcher
            param = matcher.param if matcher else None
            self._failed.append(Rejected(request_id, InvalidRequest.code, message, param))
            return
        message = (
            f"the model gave logits that are not numbers in step {self._num_steps}; its weights "
            "or this build are broken: pull the model again"
        )
        self._failed.append(Rejected(request_id, EngineFailed.code, message))


def _no_clock() -> float:
    return 0.0
