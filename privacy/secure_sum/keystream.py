"""From 32 byte keys to masks: HKDF-SHA256 to derive them, the ChaCha20 keystream (RFC 8439) to stretch them.

Every key is used for one stream only, so the nonce is always zero.
"""

from __future__ import annotations

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from privacy.quantise import Words

KEY_BYTES = 32
_NONCE_BYTES = 16
# Large enough that the loop costs nothing, small enough to stay in a core's cache.
_CHUNK_BYTES = 1 << 18


def derived_key(secret: bytes, purpose: bytes) -> bytes:
    """A key for one purpose, 32 bytes: HKDF-SHA256 (RFC 5869) without salt, ``purpose`` as its info."""
    return HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=None, info=purpose).derive(secret)


def add_mask(words: Words, key: bytes, *, subtract: bool = False) -> None:
    """Add the stream of ``key`` to ``words`` [count] (uint32 or uint64), modulo 2^32 or 2^64, in place.

    ``subtract`` takes away instead, so that two calls with one key leave ``words`` as they were.
    """
    encryptor = Cipher(algorithms.ChaCha20(key, bytes(_NONCE_BYTES)), mode=None).encryptor()
    zeros, stream = bytes(_CHUNK_BYTES), bytearray(_CHUNK_BYTES)
    per_chunk = _CHUNK_BYTES // words.itemsize
    operation = np.subtract if subtract else np.add
    for start in range(0, len(words), per_chunk):
        part = words[start : start + per_chunk]
        encryptor.update_into(zeros, stream)
        operation(part, np.frombuffer(stream, dtype=words.dtype, count=len(part)), out=part)
