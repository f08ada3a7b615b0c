"""Run by torchrun in tests: models that are cut in two, beside the same ones in one piece; argument: a folder."""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts" / "examples")]

SMALL = {
    "vocab_size": 41, "hidden_size": 16, "encoder_layers": 1, "decoder_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 32, "dropout": 0.0, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1,
}  # fmt: skip
CASES = {
    "tied": {},
    "recurrent": {"encoder_mixer": "rnn", "decoder_mixer": "rnn", "position_encoding": "none"},
    "biased, untied": {"position_encoding": "t5", "tie_word_embeddings": False},
}
STEPS = 2


def made(switches):
    """A model that is the same in every process."""
    import torch

    from selfattn_hf import SelfAttnConfig, SelfAttnForConditionalGeneration

    torch.manual_seed(0)
    return SelfAttnForConditionalGeneration(SelfAttnConfig(**{**SMALL, **switches}))


def batches(count):
    """Ids and labels of four rows; the two halves have not the same number of labels."""
    import torch

    draw = torch.Generator().manual_seed(1)
    for _ in range(count):
        ids, labels = (torch.randint(3, 41, (4, length), generator=draw) for length in (7, 6))
        labels[1, 3:] = labels[3, 1:] = -100
        yield ids, labels


def learn(model, optimizer, given, part, count):
    """Loss of the whole batch at each step, of which this process reads a part."""
    import torch

    losses = []
    for step, (ids, labels) in enumerate(given):
        items = (labels != -100).sum()
        asked = {"num_items_in_batch": items, "loss_only": step % 2 == 0}
        loss = model(input_ids=ids[part], labels=labels[part], **asked).loss
        (loss * count).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach().clone()
        if count > 1:
            torch.distributed.all_reduce(total)
        losses.append(float(total))
    return losses


def main(folder):
    """Every case: losses of both, what is held here, what is written; then go on from what was written."""
    import torch
    from torch import distributed

    from selfattn_hf.training.sharded import gathered, load_shards, save_shards, shard

    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    rank, found = distributed.get_rank(), {}
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    part = slice(2 * rank, 2 * rank + 2)
    for name, switches in CASES.items():
        one, cut = made(switches), shard(made(switches), mesh)
        first, second = (torch.optim.AdamW(model.parameters(), lr=1e-2) for model in (one, cut))
        given = list(batches(2 * STEPS))
        losses = [learn(one, first, given, slice(None), 1), learn(cut, second, given[:STEPS], part, 2)]
        save_shards(cut, second, folder / name)
        again = shard(made(switches), mesh)
        third = torch.optim.AdamW(again.parameters(), lr=1e-2)
        load_shards(again, third, folder / name)
        losses[1] += learn(again, third, given[STEPS:], part, 2)
        save_shards(again, None, folder / name / "end")
        held = sum(weight.to_local().numel() for weight in again.parameters())
        texts = [model.eval().generate(given[0][0], max_new_tokens=3).tolist() for model in (one, gathered(again))]
        found[name] = {"losses": losses, "held": held, "texts": texts}
        if rank == 0:
            one.save_pretrained(folder / f"{name} in one piece")
    (folder / f"found_{rank}.json").write_text(json.dumps(found))
    import train_fsdp

    train_fsdp.main(json.loads((folder / "example.json").read_text()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
