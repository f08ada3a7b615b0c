"""Fine-tune a model that is cut among processes (FSDP2), and put it together again.

torchrun --nproc_per_node 2 scripts/examples/train_fsdp.py FOLDER --data DATA --source en --target de --output OUT

A step reads `--batch` rows in every process and divides its loss by the labels of all of them, so that N processes
learn what one learns from N times as many rows. OUT/parts holds what each process has, OUT the whole model.
"""

from pathlib import Path

import finetune


def main(arguments: list[str] | None = None) -> None:
    """Cut, train, write the parts, put them together."""
    options = finetune.parse(arguments, __doc__).parse_args(arguments)
    import torch
    from torch import distributed
    from transformers import DataCollatorForSeq2Seq

    from selfattn_hf.training.sharded import gather_shards, save_shards, shard

    kind = "cpu" if options.use_cpu or not torch.cuda.is_available() else "cuda"
    if not distributed.is_initialized():
        distributed.init_process_group("gloo" if kind == "cpu" else "nccl")
    rank, count = distributed.get_rank(), distributed.get_world_size()
    device = torch.device(kind)
    if kind == "cuda":
        device = torch.device(kind, distributed.get_node_local_rank())
        torch.cuda.set_device(device)
    tokenizer, model = finetune.load(options)
    collate = DataCollatorForSeq2Seq(tokenizer, model=model)
    rows = finetune.ids_of(options, tokenizer)["train"]
    mesh = torch.distributed.device_mesh.init_device_mesh(kind, (count,))
    shard(model.to(device).train(), mesh, compute_in=torch.bfloat16 if kind == "cuda" else None)
    own = sum(weight.to_local().numel() for weight in model.parameters())
    print(f"process {rank} of {count} holds {own:,} numbers", flush=True)

    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    order: list[int] = []
    for step in range(options.steps):
        if len(order) < options.batch * count:  # the same order in every process
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(step)).tolist()
        taken, order = order[: options.batch * count], order[options.batch * count :]
        batch = collate([rows[row] for row in taken[rank::count]]).to(device)
        labels = (batch["labels"] != -100).sum()
        distributed.all_reduce(labels)
        loss = model(**batch, num_items_in_batch=labels, loss_only=True).loss
        (loss * count).backward()  # gradients are averaged, and this is a part of a sum
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total = loss.detach()
        distributed.all_reduce(total)
        if rank == 0 and (step + 1) % max(1, options.steps // 5) == 0:
            print(f"step {step + 1}: loss {total:.4f}", flush=True)

    save_shards(model, optimizer, Path(options.output, "parts"))
    if rank == 0:
        gather_shards(finetune.load(options)[1], Path(options.output, "parts"), options.output)
        tokenizer.save_pretrained(options.output)
        print(f"the model lies in {options.output}", flush=True)
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
