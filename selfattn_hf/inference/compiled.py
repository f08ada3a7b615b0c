"""The same words, sooner still: a step of decoding as one call of compiled code, where a compiler is.

`DecodingState` asks for it by itself. What it does not serve (another device, another number format, encodings of
places that ask the queries) is computed by torch's operations, with the same result.
"""

import ctypes
import functools
from collections.abc import Sequence
from ctypes import Structure, byref, c_float, c_int32, c_int64, c_void_p
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from selfattn_hf.model import DecodingState, Int8Linear, Places, PositionalEncoding

from .building import load_library

SOME_TOKENS = 32
# What `selfattn_knows` tells, by its argument.
LAYER_SIZE, STEP_SIZE, PANEL, GROUP, SERVES_BYTES = range(5)
NORMS: dict[type[nn.Module], int] = {nn.LayerNorm: 1, nn.RMSNorm: 2}
# feedforward -> which activation, and whether it is a gate.
ACTIVATIONS = {"relu": (0, 0), "gelu": (1, 0), "silu": (2, 0), "swiglu": (2, 1), "geglu": (3, 1), "none": (0, 0)}


class _Norm(Structure):
    _fields_ = (("weight", c_void_p), ("bias", c_void_p), ("kind", c_int32), ("epsilon", c_float))


class _Product(Structure):
    _fields_ = (
        ("weight", c_void_p), ("bias", c_void_p), ("scale", c_void_p), ("sums", c_void_p),
        ("inputs", c_int32), ("outputs", c_int32), ("packed", c_int32), ("unused", c_int32),
    )  # fmt: skip


class _Layer(Structure):
    _fields_ = (
        ("before", _Norm * 3), ("after", _Norm * 3),
        ("qkv", _Product), ("mixed", _Product), ("query", _Product), ("found", _Product), ("up", _Product),
        ("down", _Product), ("keys", c_void_p), ("values", c_void_p), ("source_keys", c_void_p),
        ("source_values", c_void_p),
    )  # fmt: skip


class _Step(Structure):
    _fields_ = (
        ("layers", c_void_p), ("norm", c_void_p), ("head", c_void_p),
        *((name, c_int32) for name in (
            "layer_count", "rows", "width", "heads", "head_width", "inner", "activation", "gated", "residual",
            "threads", "tokens", "source", "table_width", "bias_width",
        )),
        ("own_scale", c_float), ("source_scale", c_float),
        *((name, c_void_p) for name in (
            "x", "slots", "sentences", "table", "bias", "rotation", "visible", "work", "logits",
        )),
    )  # fmt: skip


class CompiledWriter:
    """Logits of one token after the other, for a decoder that `DecodingState` serves.

    Args:
        library: of compiled_step.cpp.
        decoder: the decoder.
        head: its output layer.
        states: of the source, [B, S, D].
        padding: [B, S] 1 at real tokens of the source, or None.
        beams: hypotheses of one sentence.
    """

    def __init__(
        self, library: ctypes.CDLL, decoder: Any, head: nn.Module, states: Tensor, padding: Tensor | None, beams: int
    ) -> None:
        self.library, self.decoder = library, decoder
        config = decoder.config
        self.rows, self.beams, self.position = len(states) * beams, beams, decoder.position
        self._kept: list[Any] = []  # whose addresses the library was given
        self._products: dict[tuple[int, ...], Packed] = {}
        activation, gated = ACTIVATIONS[config.feedforward]
        steps = [layer for _, layer in decoder.steps()]
        mix, read = steps[0].mix.sublayer, steps[0].read.sublayer
        self.step = _Step(
            layer_count=len(steps), rows=self.rows, width=config.hidden_size, heads=mix.heads,
            head_width=config.head_width, inner=config.intermediate_size, activation=activation, gated=gated,
            residual=config.residual, threads=torch.get_num_threads(), source=states.shape[1],
            own_scale=mix.attend.scaling, source_scale=read.attend.scaling,
        )  # fmt: skip
        self._layers = (_Layer * len(steps))(*(self._layer(layer, states) for layer in steps))
        self._norm, self._head = self._norm_of(decoder.norm), self._product([head])
        self.step.layers, self.step.norm = ctypes.addressof(self._layers), ctypes.addressof(self._norm)
        self.step.head = ctypes.addressof(self._head)
        if padding is not None and not bool(padding.all()):
            self.step.visible = self._address(padding.to(torch.uint8))
        inner = mix.heads * config.head_width
        self._memory = states.new_empty(len(steps), 2, self.rows, 0, inner)  # keys and values by layer, slot and token
        self.slots = torch.arange(self.rows, dtype=torch.int32)
        self.sentences = self.slots // beams
        self.table = torch.empty(self.rows, 0, dtype=torch.int32)
        self._vocabulary = self._head.outputs

    @staticmethod
    def serves(library: ctypes.CDLL, decoder: Any, head: nn.Module, states: Tensor) -> bool:
        """Whether the compiled code knows all that such a step computes; see `DecodingState.serves` for the rest."""
        config, position = decoder.config, decoder.position
        layers = [module for module in (*decoder.modules(), head) if isinstance(module, nn.Linear | Int8Linear)]
        in_bytes = [isinstance(layer, Int8Linear) for layer in layers]
        numbers = list(decoder.parameters())
        return (
            states.device.type == "cpu"
            and all(one.dtype == torch.float32 and one.device.type == "cpu" for one in (states, *numbers))
            and all(
                layer.weight.dtype == (torch.int8 if isinstance(layer, Int8Linear) else torch.float32)
                for layer in layers
            )
            and (not any(in_bytes) or bool(library.selfattn_knows(SERVES_BYTES)))
            and (
                not any(in_bytes) or all(layer.weight.shape[1] % library.selfattn_knows(GROUP) == 0 for layer in layers)
            )
            and config.position_injection == "input"
            and config.feedforward in ACTIVATIONS
            and _asks_no_queries(position)
            and _turns_heads_alike(position)
        )

    def write(self, x: Tensor, tokens: Places) -> Tensor:
        """New tokens, embedded and ordered, [R, D], and where they stand, the same place in every row -> [R, V]."""
        length = tokens.keys.shape[1] - 1
        if length >= self.table.shape[1]:
            self._grow()
        self.table[:, length] = self.slots
        step = self.step
        step.tokens, step.rows = length + 1, len(x)
        step.table, step.slots, step.sentences = (
            given.data_ptr() for given in (self.table, self.slots, self.sentences)
        )
        if self._bias is not None:  # by distance, that of the new token to itself comes last
            step.bias = self._bias.data_ptr() + 4 * (self._bias.shape[1] - length - 1)
        rotation = self._rotation(tokens.queries)
        step.rotation = None if rotation is None else rotation.data_ptr()
        x, logits = x.clone(memory_format=torch.contiguous_format), x.new_empty(len(x), self._vocabulary)
        step.x, step.logits = x.data_ptr(), logits.data_ptr()
        self.library.selfattn_step(byref(step))
        return logits

    def reorder(self, rows: Tensor) -> None:
        """Row r goes on from row `rows[r]`: [R]."""
        self.table = self.table.index_select(0, rows)

    def keep(self, sentences: Tensor) -> None:
        """Go on with these sentences alone, in this order: [n]. Their memory stays where it is."""
        rows = (sentences[:, None] * self.beams + torch.arange(self.beams)).flatten()
        self.table, self.slots, self.sentences = self.table[rows], self.slots[rows], self.sentences[rows]

    def _grow(self) -> None:
        tokens = self.table.shape[1]
        more = max(tokens, SOME_TOKENS)
        self.table = torch.cat([self.table, self.table.new_empty(len(self.table), more)], dim=1)
        shape = (*self._memory.shape[:3], more, self._memory.shape[4])
        self._memory = torch.cat([self._memory, self._memory.new_empty(shape)], dim=3)
        for layer, memory in zip(self._layers, self._memory, strict=True):
            layer.keys, layer.values = (part.data_ptr() for part in memory)
        width = tokens + more
        plain = Places.count((1, width), self.table.device)
        diagonals = self.position.diagonals(plain)
        self._bias = None if diagonals is None else diagonals[:, :width].float().contiguous()
        self.step.table_width = self.step.bias_width = width
        self._work = self._memory.new_empty(self.library.selfattn_work_size(byref(self.step)))
        self.step.work = self._work.data_ptr()

    def _rotation(self, now: Tensor) -> Tensor | None:
        """[d, d]: what turning makes of every unit vector, at this place [1, 1]."""
        if not _turns(self.position):
            return None
        units = torch.eye(self.step.head_width)[None, :, None]  # [1, d, 1, d]
        return self.position.rotate(units, Places(now, now, (1, 1)))[0, :, 0].contiguous()

    def _layer(self, layer: Any, states: Tensor) -> _Layer:
        mix, read = layer.mix.sublayer, layer.read.sublayer
        parts = [layer.mix, layer.read, layer.think]
        made = _Layer(
            before=(_Norm * 3)(*(self._norm_of(None if part is None else part.before) for part in parts)),
            after=(_Norm * 3)(*(self._norm_of(None if part is None else part.after) for part in parts)),
            qkv=self._product([mix.q_proj, mix.k_proj, mix.v_proj]), mixed=self._product([mix.out_proj]),
            query=self._product([read.q_proj]), found=self._product([read.out_proj]),
            source_keys=self._address(read.k_proj(states)), source_values=self._address(read.v_proj(states)),
        )  # fmt: skip
        if layer.think is not None:
            think = layer.think.sublayer
            gates = [think.gate_proj] if hasattr(think, "gate_proj") else []
            made.up, made.down = self._product([*gates, think.up_proj]), self._product([think.down_proj])
        return made

    def _norm_of(self, norm: Any) -> _Norm:
        if norm is None:
            return _Norm()
        epsilon = norm.eps if norm.eps is not None else torch.finfo(torch.float32).eps
        bias = getattr(norm, "bias", None)
        return _Norm(self._address(norm.weight), self._address(bias), NORMS[type(norm)], epsilon)

    def _product(self, layers: Sequence[Any]) -> _Product:
        key = tuple(map(id, layers))
        if key not in self._products:  # a shared layer comes again and again
            in_bytes = isinstance(layers[0], Int8Linear)
            self._products[key] = (
                _kept_product(self.library, layers) if in_bytes else Packed(self.library, layers, self.rows > 1)
            )
        return self._products[key].product

    def _address(self, numbers: Tensor | None) -> int | None:
        return _address(numbers, self._kept)


class Packed:
    """Linear layers that read the same x, as one product of the compiled code.

    Args:
        library: of compiled_step.cpp.
        layers: all of one kind, with a bias all of them or none.
        packed: whether to lay the weights out anew: it pays from two rows on.
    """

    def __init__(self, library: ctypes.CDLL, layers: Sequence[Any], packed: bool) -> None:
        kept: list[Tensor] = []
        weight, in_bytes = _side_by_side(layers, "weight"), isinstance(layers[0], Int8Linear)
        outputs, inputs = weight.shape
        product = _Product(inputs=inputs, outputs=outputs, packed=packed)
        if layers[0].bias is not None:
            product.bias = _address(_side_by_side(layers, "bias"), kept)
        if in_bytes:
            product.scale = _address(_side_by_side(layers, "scale"), kept)
            sums = torch.empty(outputs, dtype=torch.int32)
            library.selfattn_sums(c_void_p(weight.data_ptr()), c_void_p(sums.data_ptr()), outputs, inputs)
            product.sums = _address(sums, kept)
        if packed:
            panel = library.selfattn_knows(PANEL)
            panels = weight.new_empty(-(-outputs // panel) * panel, inputs)
            panels[outputs // panel * panel :] = 0
            pointers = c_void_p(weight.data_ptr()), c_void_p(panels.data_ptr())
            library.selfattn_pack(*pointers, outputs, inputs, int(in_bytes))
            weight = panels
        product.weight = _address(weight, kept)
        self.product, self._kept = product, kept

    def hold(self, parts: Sequence[Tensor]) -> None:
        """Keep what it was made of, so that no other numbers come to lie at the same address."""
        self._kept += [part.detach() for part in parts]


# Weights of 8 bits hardly ever change: they are laid out once for all texts, and anew after others were loaded.
_in_bytes: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], tuple[list[Any], Packed]]] = WeakKeyDictionary()


def _kept_product(library: ctypes.CDLL, layers: Sequence[Any]) -> Packed:
    known, key = _in_bytes.setdefault(layers[0], {}), tuple(map(id, layers))
    parts = [part for layer in layers for part in (layer.weight, layer.scale, layer.bias) if part is not None]
    now = [(part.data_ptr(), 0 if part.is_inference() else part._version) for part in parts]
    then, product = known.get(key, (None, None))
    if product is None or then != now:
        product = Packed(library, layers, packed=True)
        product.hold(parts)
        known[key] = now, product
    return product


def _multiply(layer: Int8Linear, rows: Tensor) -> Tensor | None:
    """[R, in] -> [R, out] by a layer of 8 bits, or None where it is torch's to compute."""
    library = _library() if rows.device.type == "cpu" and rows.dtype == torch.float32 else None
    if library is None or not library.selfattn_knows(SERVES_BYTES) or rows.shape[1] % library.selfattn_knows(GROUP):
        return None
    if any(part is not None and part.dtype != rows.dtype for part in (layer.scale, layer.bias)):
        return None
    packed = _kept_product(library, [layer])  # by this name it lives on where another thread lays it out anew
    product, rows = packed.product, rows.detach().contiguous()
    found, work = rows.new_empty(len(rows), product.outputs), rows.new_empty(len(rows) * (2 + rows.shape[1] // 2) + 1)
    pointers = c_void_p(rows.data_ptr()), c_void_p(found.data_ptr())
    library.selfattn_multiply(byref(product), *pointers, len(rows), torch.get_num_threads(), c_void_p(work.data_ptr()))
    return found


def offer() -> None:
    """Let `DecodingState` write, and layers of 8 bits multiply, by compiled code wherever that serves."""
    DecodingState.offered = staticmethod(_writer)
    Int8Linear.offered = staticmethod(_multiply)


def _writer(decoder: Any, head: nn.Module, states: Tensor, padding: Tensor | None, beams: int) -> CompiledWriter | None:
    if states.device.type != "cpu":
        return None
    library = _library()
    if library is None or not CompiledWriter.serves(library, decoder, head, states):
        return None
    return CompiledWriter(library, decoder, head, states, padding, beams)


@functools.cache
def _library() -> ctypes.CDLL | None:
    """The compiled code, if there is any, after a look whether both sides mean the same structures."""
    library = load_library()
    if library is not None:
        library.selfattn_work_size.restype = c_int64
        sizes = library.selfattn_knows(LAYER_SIZE), library.selfattn_knows(STEP_SIZE)
        if sizes != (ctypes.sizeof(_Layer), ctypes.sizeof(_Step)):
            raise RuntimeError("compiled.py and compiled_step.cpp are of different versions. Install the package anew.")
    return library


def _side_by_side(layers: Sequence[Any], name: str) -> Tensor:
    parts = [getattr(layer, name).detach() for layer in layers]
    return parts[0].contiguous() if len(parts) == 1 else torch.cat(parts)


def _address(numbers: Tensor | None, kept: list[Tensor]) -> int | None:
    """Where the numbers lie, row after row, while they are kept."""
    if numbers is None:
        return None
    numbers = numbers.detach().contiguous()
    kept.append(numbers)
    return numbers.data_ptr()


def _parts(position: nn.Module) -> list[PositionalEncoding]:
    return [part for part in position.modules() if isinstance(part, PositionalEncoding) and not hasattr(part, "parts")]


def _turns(position: nn.Module) -> bool:
    return any(type(part).rotate is not PositionalEncoding.rotate for part in _parts(position))


def _turns_heads_alike(position: nn.Module) -> bool:
    """Whether one matrix for each place turns queries and keys, as our own encodings do: one that joined may not."""
    ours = PositionalEncoding.__module__.rpartition(".")[0]
    return all(type(part).rotate.__module__.rpartition(".")[0] == ours for part in _parts(position))


def _asks_no_queries(position: Any) -> bool:
    """Whether what is added to an affinity depends on the distance alone."""
    adding = any(type(part).bias is not PositionalEncoding.bias for part in _parts(position))
    return not adding or position.diagonals(Places.count((1, 2), torch.device("cpu"))) is not None
