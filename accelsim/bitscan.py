"""Finding non-zeros 64 at a time.

Three primitives that numba cannot express: a vector compare that becomes one bit per element, the index of the lowest
set bit, and the number of set bits. With NUMBA_DISABLE_JIT=1 the plain Python versions below stand in for them.
"""

from __future__ import annotations

import numpy as np
from numba import config, types
from numba.extending import intrinsic

WORD = 64
"""Elements that one mask covers."""

if config.DISABLE_JIT:  # type: ignore[attr-defined]

    def nonzero_mask(bits, start, magnitude):
        """Return a 64-bit mask of the elements bits[start:start + 64] that are not zero under the magnitude mask."""
        flags = (bits[start : start + WORD] & magnitude) != 0
        return np.uint64(sum(1 << int(k) for k in np.flatnonzero(flags)))

    def lowest_bit(mask):
        """Return the index of the lowest set bit, 64 if none is set."""
        value = int(mask)
        return np.uint64((value & -value).bit_length() - 1 if value else WORD)

    def count_bits(mask):
        """Return how many bits are set."""
        return np.uint64(int(mask).bit_count())

else:
    from llvmlite import ir

    @intrinsic
    def nonzero_mask(typing_context, bits, start, magnitude):
        """Return a 64-bit mask of the elements bits[start:start + 64] that are not zero under the magnitude mask."""
        if not (isinstance(bits, types.Array) and bits.layout == "C" and bits.ndim == 1 and bits.dtype == magnitude):
            return None
        signature = types.uint64(bits, start, magnitude)

        def codegen(context, builder, signature, args):
            array = context.make_array(signature.args[0])(context, builder, args[0])
            lane = context.get_data_type(signature.args[0].dtype)
            vector = ir.VectorType(lane, WORD)
            undefined = ir.Constant(vector, ir.Undefined)
            first = ir.Constant(ir.IntType(32), 0)
            chosen = builder.insert_element(undefined, args[2], first)
            splat = builder.shuffle_vector(
                chosen, undefined, ir.Constant(ir.VectorType(ir.IntType(32), WORD), [0] * WORD)
            )
            pointer = builder.bitcast(builder.gep(array.data, [args[1]]), vector.as_pointer())
            values = builder.load(pointer)
            values.align = 1
            flags = builder.icmp_unsigned("!=", builder.and_(values, splat), ir.Constant(vector, [0] * WORD))
            return builder.bitcast(flags, ir.IntType(WORD))

        return signature, codegen

    @intrinsic
    def lowest_bit(typing_context, mask):
        """Return the index of the lowest set bit, 64 if none is set."""
        if mask != types.uint64:
            return None

        def codegen(context, builder, signature, args):
            return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

        return types.uint64(types.uint64), codegen

    @intrinsic
    def count_bits(typing_context, mask):
        """Return how many bits are set."""
        if mask != types.uint64:
            return None

        def codegen(context, builder, signature, args):
            return builder.ctpop(args[0])

        return types.uint64(types.uint64), codegen
