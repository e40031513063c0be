"""A whole network in one compiled call: the stages of a packed network, one after another.

A stage is a row of int64: what it reads, how much of it, and which steps follow (rows of the step table). All places
are byte addresses, so the caller keeps the arrays alive and has checked their sizes; `bnnsearch.packed.plan` does.

Tensors lie as (image, row, column, channel), channels padded to whole vectors of 16 reals or to 8 or 16 bits, with a
border as wide as their readers' padding. A table of int32 offsets says where each pixel starts; it ends with a spare
pixel that the rest of the last block of 8 goes to.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from bnnsearch.kernels.conv_block import block_of_16, block_of_32, read_int32, read_octet, read_real, write_real
from bnnsearch.kernels.conv_emit import PIXELS
from bnnsearch.kernels.conv_source import Source
from bnnsearch.kernels.jit import compiled


class Stage(IntEnum):
    """Sources of stages beyond those of a block: `conv_source.Source` holds 0 to 6."""

    INPUT = 7
    COPY = 8
    SIGMOID = 9


class Column(IntEnum):
    """Columns of the stage table.

    A convolution reads, for each of ROWS kernel rows ROW_STRIDE bytes apart, RUN neighbouring elements (words of 32
    bits or float32); its weights lie as (group, row, element, 16 channels). Of bits, MASKS says for each word of a row
    which count, and BASE holds a row of float32 per kind of border, which BASE_OFFSETS chooses by pixel. A pool reads
    ROWS source pixels per window, whose offset tables are ROW_STRIDE bytes apart.
    """

    KIND = 0
    SOURCE = 1
    OFFSETS = 2
    WEIGHTS = 3
    ROWS = 4
    RUN = 5
    ROW_STRIDE = 6
    BASE = 7
    BASE_OFFSETS = 8
    MASKS = 9
    PIXELS = 10
    GROUPS = 11
    FIRST_STEP = 12
    LAST_STEP = 13


class CopyColumn(IntEnum):
    """Columns of INPUT, COPY and SIGMOID stages, which move scalars.

    COPY writes CHANNELS channels of PIXELS pixels to TARGET, SIGMOID their sigmoids. INPUT reads octets in the
    order (image, channel, row, column) and looks them up in TABLE, 256 float32 per input channel; PER_CHANNEL target
    channels share a row of it, and an image has PIXELS / IMAGES pixels.
    """

    KIND = 0
    SOURCE = 1
    OFFSETS = 2
    TARGET = 3
    TARGET_OFFSETS = 4
    PIXELS = 5
    CHANNELS = 6
    TABLE = 7
    PER_CHANNEL = 8
    IMAGES = 9


COLUMNS = 14

_INPUT, _COPY, _SIGMOID = int(Stage.INPUT), int(Stage.COPY), int(Stage.SIGMOID)
_WIDE_REAL, _WIDE_SUM = int(Source.WIDE_REAL), int(Source.WIDE_SUM)

Table = NDArray[np.int64]


@compiled
def _look_up(stage: Table) -> None:
    pixels, channels = stage[5] // stage[9], stage[6]
    source = stage[1]
    for image in range(stage[9]):
        offsets = stage[4] + image * pixels * 4
        for channel in range(channels):
            table = stage[7] + (channel // stage[8]) * 1024
            target = stage[3] + channel * 4
            for pixel in range(pixels):
                value = read_real(table + np.int64(read_octet(source)) * 4)
                write_real(target + read_int32(offsets + pixel * 4), value)
                source += 1


@compiled
def _copy(stage: Table) -> None:
    for pixel in range(stage[5]):
        source = stage[1] + read_int32(stage[2] + pixel * 4)
        target = stage[3] + read_int32(stage[4] + pixel * 4)
        for channel in range(stage[6]):
            value = read_real(source + channel * 4)
            if stage[0] == _SIGMOID:
                value = np.float32(1 / (1 + math.exp(-np.float64(value))))
            write_real(target + channel * 4, value)


@compiled
def run_stages(stages: Table, steps: Table) -> None:
    """Run the stages in order.

    Args:
        stages: (n, 14), see `Column` and `CopyColumn`.
        steps: (m, 5): kind, a, b, map, offsets of each step, see `conv_step.Step`.
    """
    table = np.int64(steps.ctypes.data)
    for number in range(stages.shape[0]):
        stage = stages[number]
        if stage[0] == _INPUT:
            _look_up(stage)
            continue
        if stage[0] == _COPY or stage[0] == _SIGMOID:
            _copy(stage)
            continue
        kind, source, offsets, weights = stage[0], stage[1], stage[2], stage[3]
        rows, run, row_stride, base, base_offsets = stage[4], stage[5], stage[6], stage[7], stage[8]
        masks, pixels, groups, first, last = stage[9], stage[10], stage[11], stage[12], stage[13]
        where = (kind, source, offsets, weights, rows, run, row_stride, base, base_offsets, masks)
        pairs = 0 if kind in (_WIDE_REAL, _WIDE_SUM) else groups // 2 * 2
        group = 0
        while group < pairs:
            for pixel in range(0, pixels, PIXELS):
                block_of_32((*where, pixel, group, table, first, last))
            group += 2
        while group < groups:
            for pixel in range(0, pixels, PIXELS):
                block_of_16((*where, pixel, group, table, first, last))
            group += 1
