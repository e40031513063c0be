"""A whole network in one compiled call: the stages of a packed network, one after another.

A stage is a row of int64: what it reads, how much of it, and which steps follow (rows of the step table). All places
are byte addresses, so the caller keeps the arrays alive and has checked their sizes; `bnnsearch.packed.lower` does.

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


COLUMNS = len(Column)

Table = NDArray[np.int64]


@compiled
def _look_up(stage: Table) -> None:
    images, shared = stage[CopyColumn.IMAGES], stage[CopyColumn.PER_CHANNEL]
    pixels = stage[CopyColumn.PIXELS] // images
    source = stage[CopyColumn.SOURCE]
    for image in range(images):
        offsets = stage[CopyColumn.TARGET_OFFSETS] + image * pixels * 4
        for channel in range(stage[CopyColumn.CHANNELS]):
            table = stage[CopyColumn.TABLE] + channel // shared * 1024
            target = stage[CopyColumn.TARGET] + channel * 4
            for pixel in range(pixels):
                value = read_real(table + np.int64(read_octet(source)) * 4)
                write_real(target + read_int32(offsets + pixel * 4), value)
                source += 1


@compiled
def _copy(stage: Table) -> None:
    for pixel in range(stage[CopyColumn.PIXELS]):
        source = stage[CopyColumn.SOURCE] + read_int32(stage[CopyColumn.OFFSETS] + pixel * 4)
        target = stage[CopyColumn.TARGET] + read_int32(stage[CopyColumn.TARGET_OFFSETS] + pixel * 4)
        for channel in range(stage[CopyColumn.CHANNELS]):
            value = read_real(source + channel * 4)
            if stage[CopyColumn.KIND] == Stage.SIGMOID:
                value = np.float32(1 / (1 + math.exp(-np.float64(value))))
            write_real(target + channel * 4, value)


@compiled
def _fill_blocks(stage: Table, steps: int) -> None:
    where = (
        stage[Column.KIND],
        stage[Column.SOURCE],
        stage[Column.OFFSETS],
        stage[Column.WEIGHTS],
        stage[Column.ROWS],
        stage[Column.RUN],
        stage[Column.ROW_STRIDE],
        stage[Column.BASE],
        stage[Column.BASE_OFFSETS],
        stage[Column.MASKS],
    )
    then = (steps, stage[Column.FIRST_STEP], stage[Column.LAST_STEP])
    wide = stage[Column.KIND] == Source.WIDE_REAL or stage[Column.KIND] == Source.WIDE_SUM
    paired = 0 if wide else stage[Column.GROUPS] // 2 * 2
    for group in range(0, paired, 2):
        for pixel in range(0, stage[Column.PIXELS], PIXELS):
            block_of_32((*where, pixel, group, *then))
    for group in range(paired, stage[Column.GROUPS]):
        for pixel in range(0, stage[Column.PIXELS], PIXELS):
            block_of_16((*where, pixel, group, *then))


@compiled
def run_stages(stages: Table, steps: Table) -> None:
    """Run the stages in order.

    Args:
        stages: (n, 14), see `Column` and `CopyColumn`.
        steps: (m, 5): kind, a, b, map, offsets of each step, see `conv_step.Step`.
    """
    for number in range(stages.shape[0]):
        stage = stages[number]
        if stage[Column.KIND] == Stage.INPUT:
            _look_up(stage)
        elif stage[Column.KIND] == Stage.COPY or stage[Column.KIND] == Stage.SIGMOID:
            _copy(stage)
        else:
            _fill_blocks(stage, steps.ctypes.data)
