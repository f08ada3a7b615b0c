"""Serve a trained model by HTTP, with a page to try it.

    scripts/serve.py FOLDER                                      http://127.0.0.1:8000
    scripts/serve.py FOLDER --port 9000 --max_batch 64 --int8
    scripts/serve.py FOLDER --gradio                             the same as a page of Gradio

    curl -H 'content-type: application/json' -d '{"text": "a small dog sleeps"}' http://127.0.0.1:8000/translate

POST /translate takes a text or a list of texts, with num_beams and max_new_tokens; POST /translate/stream tells an
answer while it is written; GET /health and GET /metrics (Prometheus) are for machines. docs/serving.md has it all.
Ctrl-C, or a SIGTERM, ends it when what was accepted is answered.
"""

import argparse
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import _cli

if TYPE_CHECKING:
    from selfattn_hf import Translator
    from selfattn_hf.inference.service import Look

# Option -> default and meaning; `ServiceSettings` has the same.
LIMITS: dict[str, tuple[float, str]] = {
    "max_batch": (32, "texts that are computed at once"),
    "max_wait_ms": (2.0, "how long a text waits for others to join it"),
    "max_queue": (512, "texts that may wait; more are refused with 503"),
    "timeout_s": (30.0, "seconds from a request to its answer; beyond, 504"),
    "max_texts": (64, "texts of one request"),
    "max_characters": (2000, "characters of one text"),
    "max_beams": (8, "num_beams that a request may ask for"),
    "max_new_tokens": (512, "max_new_tokens that a request may ask for"),
    "max_body_bytes": (1_000_000, "bytes of one request"),
}


def main(arguments: list[str]) -> None:
    """Parse, load, serve."""
    options = parse(arguments)
    # The port is taken first: one that is taken already should not cost the seconds that loading a model takes.
    with listening(options.host, options.port) as door:
        host, port = door.getsockname()[:2]
        try:
            import uvicorn
        except ImportError as error:
            raise ValueError(f"a service needs {error.name}: pip install 'selfattn_hf[serve]'.") from error
        translator = load(options)
        if options.gradio:
            from selfattn_hf.inference.service_gradio import make_gradio

            page = make_gradio(translator, look_by(translator))
            door.close()
            page.launch(server_name=host, server_port=port)
            return
        from selfattn_hf.inference.service import ServiceSettings, make_app

        settings = ServiceSettings(**{name: getattr(options, name) for name in LIMITS})
        app = make_app(translator, settings, look_by(translator))
        print(f"serving {options.model} on http://{host}:{port}", flush=True)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False))
        for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn answers them first, and raises them again
            signal.signal(number, lambda *_: None)
        server.run(sockets=[door])
        print("every request that was accepted is answered", file=sys.stderr)


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line with the standard library alone, so that --help answers at once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("model", metavar="FOLDER", help="folder that scripts/train.py left, or a model on the Hub")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 is all of them (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, metavar="N", help="0 takes one that is free (8000)")
    for name, (default, text) in LIMITS.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, metavar="N", help=f"{text} ({default})")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of torch (as it chooses)")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ... (a GPU where there is one)")
    parser.add_argument("--dtype", help="number format of the weights, such as bfloat16 (as saved)")
    parser.add_argument("--int8", action="store_true", help="round weights to 8 bits: smaller, faster, on a CPU")
    parser.add_argument("--revision", help="commit, tag or branch of a model on the Hub")
    parser.add_argument("--gradio", action="store_true", help="a page of Gradio instead")
    return parser.parse_args(arguments)


def listening(host: str, port: int) -> socket.socket:
    """A socket that takes connections; they wait until the model is loaded."""
    try:
        return socket.create_server((host, port), backlog=1024)
    except (OSError, OverflowError) as error:
        raise ValueError(f"nothing can listen on {host}:{port} ({error}). Choose another --port or --host.") from None


def load(options: argparse.Namespace) -> "Translator":
    """The model, without the bars that loading draws."""
    import torch
    from transformers.utils import logging

    from selfattn_hf import Translator

    if options.threads is not None:
        torch.set_num_threads(max(1, options.threads))
    logging.disable_progress_bar()
    return Translator.from_pretrained(
        options.model, revision=options.revision, device=options.device, dtype=options.dtype, int8=options.int8
    )


def look_by(translator: "Translator") -> "Look":
    """What the page draws: the attention while a text is translated, as the probes see it."""

    def look(text: str) -> dict[str, Any]:
        import torch

        from selfattn_hf.insight import Probed, attention_maps

        with torch.no_grad():
            maps = attention_maps(translator.model, Probed(translator.model, translator.tokenizers).read(text))
        return {"source_tokens": maps.source_tokens, "written_tokens": maps.written_tokens, "weights": maps.cross}

    return look


if __name__ == "__main__":
    _cli.run(main)
