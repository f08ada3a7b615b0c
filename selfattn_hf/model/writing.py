"""Chapter 8 of 8, how a text is chosen. Before: decoding.py. Next: generation.py.

Greedy search and beam search over a `DecodingState`, as transformers' loops do them and with the same result, but with
a handful of operations for each word where those have dozens: at one sentence, these take longer than the model.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import LongTensor, Tensor
from transformers.generation.stopping_criteria import EosTokenCriteria, MaxLengthCriteria

from .decoding import DecodingState

# A score that nothing reaches, as transformers has it: what is over or has not begun.
NEVER = -1e9
# Neighbours that are first compared among themselves when the best of very many are looked for.
GROUP = 64
# Share of the rows of a batch that still write at which those that do not are left out. What changes scores may count
# rows, and then all of them stay.
SHRINK = 0.8
Process = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Ends:
    """When a text is over.

    Attributes:
        tokens: [n] ids that end it, or None.
        longest: tokens of the longest text, with what it began with.
        padding: what stands behind the end of a text.
        padding_of_beams: the same where beams are searched: transformers takes an id of 0 for none, and the end token
            in its place.
    """

    tokens: Tensor | None
    longest: int
    padding: int
    padding_of_beams: int

    @classmethod
    def of(cls, generation_config: Any, criteria: Any) -> "Ends | None":
        """From what transformers hands to its loops; None where something else can end a text."""
        tokens, padding = generation_config._eos_token_tensor, generation_config._pad_token_tensor
        for one in criteria:  # the caller's own stand in place of those that the configuration asks for
            if type(one) is MaxLengthCriteria:
                known = one.max_length == generation_config.max_length
            else:
                known = type(one) is EosTokenCriteria and tokens is not None and _are_alike(one.eos_token_id, tokens)
            if not known:
                return None
        if not criteria.max_length:
            return None
        if tokens is None:
            return cls(None, criteria.max_length, -1, -1)
        end = int(tokens[0])
        padding = end if padding is None else int(padding)
        return cls(tokens, criteria.max_length, padding, padding or end)

    def hit(self, ids: Tensor, length: int) -> Tensor:
        """Whether a text of `length` tokens is over with these last ones: of the shape of the ids."""
        if length >= self.longest:
            return torch.ones_like(ids, dtype=torch.bool)
        if self.tokens is None:
            return torch.zeros_like(ids, dtype=torch.bool)
        return ids == self.tokens if len(self.tokens) == 1 else torch.isin(ids, self.tokens)


def write_greedily(
    state: DecodingState, begun: LongTensor, first: Tensor, process: Process | None, ends: Ends
) -> Tensor:
    """The most probable next token, again and again.

    Args:
        state: has read what is begun.
        begun: [R, T] ids.
        first: [R, V] logits for what follows.
        process: changes scores [R, V] of the texts so far [R, T], as transformers' processors do; None: nothing does.
        ends: when a text is over.

    Returns:
        [R, T + n] ids.
    """
    length, logits = begun.shape[1], first
    texts = begun.new_full((len(begun), ends.longest), ends.padding)
    texts[:, :length] = begun
    rows = torch.arange(len(begun), device=begun.device)  # that are still written
    over = torch.zeros_like(rows, dtype=torch.bool)
    while True:
        if process is not None:
            logits = process(texts[:, :length], logits.float())
        ids = logits.argmax(-1).masked_fill(over, ends.padding)
        texts[rows, length] = ids
        length += 1
        if length >= ends.longest:
            return texts
        if ends.tokens is not None:
            over = over | ends.hit(ids, length)
            left = len(over) - int(over.sum())
            if not left:
                return texts[:, :length]
            if process is None and left <= SHRINK * len(over):
                kept = over.logical_not().nonzero()[:, 0]
                state.keep(kept)
                rows, ids, over = rows[kept], ids[kept], over[kept]
        logits = state.next(ids)


@dataclass
class _Beams:
    """Texts of every sentence, the best first: [B, k, L] ids, [B, k] scores."""

    texts: Tensor
    scores: Tensor

    def chosen(self, index: Tensor) -> "_Beams":
        """[B, n] of k -> n."""
        return _Beams(_take(self.texts, index), self.scores.gather(1, index))

    def of(self, sentences: Tensor) -> "_Beams":
        """Those of some sentences, [n]."""
        return _Beams(self.texts[sentences], self.scores[sentences])


class _Done:
    """What has been found for every sentence: [B, k, L] ids, [B, k] tokens of them."""

    def __init__(self, done: _Beams, tokens: Tensor) -> None:
        self.texts, self.tokens = done.texts.clone(), tokens.clone()

    def put(self, sentences: Tensor, done: _Beams, tokens: Tensor) -> None:
        """Sentences [n], their texts and their tokens."""
        self.texts[sentences], self.tokens[sentences] = done.texts, tokens


def search_beams(
    state: DecodingState, begun: LongTensor, first: Tensor, process: Process | None, ends: Ends, how: Any
) -> Tensor:
    """The best texts that a search of k hypotheses for each sentence finds.

    Args:
        state: has read what is begun.
        begun: [B * k, T] ids.
        first: [B * k, V] logits for what follows.
        process: changes log-probabilities [B * k, V]; see `write_greedily`.
        ends: when a text is over.
        how: transformers' GenerationConfig: num_beams, num_return_sequences, length_penalty, early_stopping.

    Returns:
        [B * num_return_sequences, T + n] ids, the best of a sentence first.
    """
    k, start = how.num_beams, begun.shape[1]
    sentences, length, logits = len(begun) // k, start, first
    candidates = max(2, 1 + (0 if ends.tokens is None else len(ends.tokens))) * k
    texts = begun.new_full((sentences, k, ends.longest), ends.padding_of_beams)
    texts[:, :, :start] = begun.view(sentences, k, start)
    scores = torch.full((sentences, k), NEVER, device=begun.device)
    done = _Beams(texts.clone(), scores.clone())
    scores[:, 0] = 0  # of hypotheses that are alike, one goes on
    running = _Beams(texts, scores)
    is_done = torch.zeros_like(scores, dtype=torch.bool)
    tokens = torch.zeros_like(scores, dtype=torch.long)  # that a text which is done has got
    can_improve = torch.ones(sentences, 1, dtype=torch.bool, device=begun.device)
    left = torch.arange(sentences, device=begun.device)  # sentences that are still written
    whole = _Done(done, tokens)
    while True:
        if process is None:
            found, origin, ids = _best(logits.float(), running.scores, candidates)
        else:
            logs = process(running.texts[:, :, :length].flatten(0, 1), logits.float().log_softmax(-1))
            found, origin, ids = _best_processed(logs, running.scores, candidates)
        length += 1
        hit = ends.hit(ids, length)
        going, index = (found + hit * NEVER).topk(k)
        if bool(hit[:, :k].any()):
            # Only the best k can end; what is left of the candidates is there to go on with.
            ending = hit.clone()
            ending[:, k:] = False
            ranked = found / (length - start) ** how.length_penalty
            ranked = ranked + (is_done.all(1, keepdim=True) & (how.early_stopping is True)).float() * NEVER
            ranked = ranked + (~can_improve).float() * NEVER + (~ending).float() * NEVER
            ended = _take(running.texts, origin)
            ended[:, :, length - 1] = ids
            both = _Beams(torch.cat([done.texts, ended], dim=1), torch.cat([done.scores, ranked], dim=1))
            best = both.scores.topk(k).indices
            done = both.chosen(best)
            is_done = torch.cat([is_done, ending], dim=1).gather(1, best)
            tokens = torch.cat([tokens, torch.full_like(ids, length - start)], dim=1).gather(1, best)
        origin, ids = origin.gather(1, index), ids.gather(1, index)
        running = _Beams(_take(running.texts, origin), going)
        running.texts[:, :, length - 1] = ids
        reach = (ends.longest if how.early_stopping == "never" and how.length_penalty > 0 else length) - start
        worst = done.scores.amin(1, keepdim=True).where(is_done, torch.full_like(done.scores, NEVER))
        can_improve = can_improve & (going[:, :1] / reach**how.length_penalty > worst).any(1, keepdim=True)
        final = ~can_improve[:, 0] | (is_done.all(1) & (how.early_stopping is True))  # nothing comes after
        if bool(~can_improve.any() | final.all() | hit.all()):
            whole.put(left, done, tokens)
            break
        open_ones = len(final) - int(final.sum())
        rows = (origin + torch.arange(len(left), device=left.device)[:, None] * k).flatten()
        state.reorder_cache(rows)
        if process is None and open_ones <= SHRINK * len(left):
            whole.put(left, done, tokens)
            kept = (~final).nonzero()[:, 0]
            state.keep(kept)
            left, ids, tokens, is_done, can_improve = (
                given[kept] for given in (left, ids, tokens, is_done, can_improve)
            )
            running, done = running.of(kept), done.of(kept)
        logits = state.next(ids.flatten())
    asked = how.num_return_sequences or 1
    return whole.texts[:, :asked].flatten(0, 1)[:, : start + int(whole.tokens[:, :asked].max())]


def _best(logits: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of each sentence.

    Args:
        logits: [B * k, V].
        scores: of the hypotheses, [B, k].
        count: how many are asked for.

    Returns:
        [B, count] scores from the best on, of which hypothesis each is, and the token that is added to it.
    """
    # They are among the best of each hypothesis, whose order the sum over the vocabulary does not change.
    few = min(count, logits.shape[1])
    values, ids = best_of(logits, few)  # [B * k, few]
    values = (values - logits.logsumexp(-1, keepdim=True)).view(*scores.shape, few)
    found, index = (values + scores[..., None]).flatten(1).topk(count)
    return found, index // few, ids.view(len(scores), -1).gather(1, index)


def _best_processed(logs: Tensor, scores: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """As `_best`, from log-probabilities [B * k, V] that somebody changed."""
    width = logs.shape[1]
    found, index = best_of((logs.view(*scores.shape, width) + scores[..., None]).flatten(1), count)
    return found, index // width, index % width


def best_of(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """As `scores.topk(count)` of [R, N], sooner where N is large: the best are in the groups with the best heads."""
    rows, width = scores.shape
    groups = width // GROUP
    if groups <= count:
        top = scores.topk(count)
        return top.values, top.indices
    whole = groups * GROUP
    heads = scores[:, :whole].view(rows, groups, GROUP).amax(-1)
    places = heads.topk(count).indices[..., None] * GROUP + torch.arange(GROUP, device=scores.device)
    places = places.flatten(1)
    if whole < width:
        rest = torch.arange(whole, width, device=scores.device)
        places = torch.cat([places, rest.expand(rows, -1)], dim=1)
    top = scores.gather(1, places).topk(count)
    return top.values, places.gather(1, top.indices)


def _are_alike(some: Tensor, others: Tensor) -> bool:
    """Whether both name the same tokens."""
    return set(some.flatten().tolist()) == set(others.flatten().tolist())


def _take(texts: Tensor, index: Tensor) -> Tensor:
    """[B, k, L], [B, n] -> [B, n, L]."""
    return texts.gather(1, index[..., None].expand(-1, -1, texts.shape[2]))
