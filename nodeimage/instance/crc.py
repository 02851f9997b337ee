"""The CRC-32 of a whole, from those of its parts: parts of a large file arrive at the same time, in any order.

Source: the method of zlib's crc32_combine: appending n bytes to what was read multiplies its CRC by x^(8n), modulo the polynomial.
"""

from __future__ import annotations

from collections.abc import Iterable

_POLYNOMIAL = 0xEDB88320  #: CRC-32's, lowest power in the highest bit
_ONE = 1 << 31


def _multiplied(a: int, b: int) -> int:
    """Multiply two polynomials modulo CRC-32's."""
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = b >> 1 ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


def _shift(count: int) -> int:
    """x^(8 * count), modulo CRC-32's polynomial."""
    power, square = _ONE, 1 << 23  # x^0, x^8
    while count:
        if count & 1:
            power = _multiplied(square, power)
        square = _multiplied(square, square)
        count >>= 1
    return power


def crc32_of_parts(parts: Iterable[tuple[int, int]]) -> int:
    """The CRC-32 of the parts one after the other. Shape: (CRC-32, bytes) of each, in order"""
    crc32 = 0
    for part_crc32, count in parts:
        crc32 = _multiplied(_shift(count), crc32) ^ part_crc32
    return crc32
