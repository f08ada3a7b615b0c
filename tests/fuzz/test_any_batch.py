"""Any batch: a row alone, and among others, on either side of padding, in any order and width, gives the same."""

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

CLOSE = {torch.float64: 1e-12, torch.float32: 1e-5}
LENGTHS = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 9)), min_size=1, max_size=5)
PADDING = st.tuples(st.booleans(), st.integers(0, 6))  # on the left, and how much wider than the longest row


def rectangle(rows, left, more, filler):
    """Rows of ids as one batch: ids, with `filler` where there is padding, and mask."""
    width = max(map(len, rows)) + more
    ids = torch.full((len(rows), width), filler)
    mask = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(0, len(row))
        ids[i, where], mask[i, where] = row, 1
    return ids, mask


@torch.no_grad()
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    lengths=LENGTHS, source_padding=PADDING, target_padding=PADDING, filler=st.integers(0, 39),
    seed=st.integers(0, 2**16), is_double=st.booleans(),
)  # fmt: skip
def test_padding_batch_mates_and_order_never_matter(
    stacks, models, lengths, source_padding, target_padding, filler, seed, is_double
):
    dtype = torch.float64 if is_double else torch.float32
    model = models(stacks, dtype)
    draw = torch.Generator().manual_seed(seed)
    sources = [torch.randint(3, 40, (source,), generator=draw) for source, _ in lengths]
    targets = [torch.randint(3, 40, (target,), generator=draw) for _, target in lengths]
    order = torch.randperm(len(lengths), generator=draw).tolist()
    source, source_mask = rectangle([sources[row] for row in order], *source_padding, filler)
    target, target_mask = rectangle([targets[row] for row in order], *target_padding, filler)
    together = model(
        input_ids=source, attention_mask=source_mask, decoder_input_ids=target, decoder_attention_mask=target_mask
    ).logits
    for place, row in enumerate(order):
        alone = model(input_ids=sources[row][None], decoder_input_ids=targets[row][None]).logits[0]
        among = together[place][target_mask[place].bool()]
        torch.testing.assert_close(among, alone, atol=CLOSE[dtype], rtol=0)
