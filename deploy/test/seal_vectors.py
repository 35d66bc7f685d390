"""Checks the committed vectors of sealed values by an implementation of its own.

Usage: seal_vectors.py check FILE   opens every value, makes each again, and tries changes
       seal_vectors.py make         prints a file of vectors

The format is told in crates/daemon/src/seal.rs. Nothing of that code is used here:
HKDF and AES-GCM are those of the package cryptography.
"""

import base64
import json
import sys

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FORMAT = b"\x01"
KEY_ID_LEN = 8
NONCE_LEN = 12
HEADER_LEN = 1 + KEY_ID_LEN + NONCE_LEN


def expand(master, info, length):
    return HKDF(algorithm=SHA256(), length=length, salt=b"seal/1", info=info).derive(master)


def key_of(master, purpose):
    return expand(master, b"key/" + purpose.encode(), 32)


def key_id_of(master, purpose):
    return expand(master, b"id/" + purpose.encode(), KEY_ID_LEN)


def bytes_of(master, purpose):
    return expand(master, b"bytes/" + purpose.encode(), 32)


def seal(master, purpose, nonce, aad, plain):
    header = FORMAT + key_id_of(master, purpose) + nonce
    return header + AESGCM(key_of(master, purpose)).encrypt(nonce, plain, header + aad)


def open_sealed(master, purpose, aad, sealed):
    header, text = sealed[:HEADER_LEN], sealed[HEADER_LEN:]
    assert header[:1] == FORMAT, "another format"
    assert header[1 : 1 + KEY_ID_LEN] == key_id_of(master, purpose), "another key"
    return AESGCM(key_of(master, purpose)).decrypt(header[1 + KEY_ID_LEN :], text, header + aad)


def refused(master, purpose, aad, sealed):
    try:
        open_sealed(master, purpose, aad, sealed)
    except (InvalidTag, AssertionError):
        return True
    return False


def changes(data):
    for at in range(len(data)):
        yield data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def check(path):
    with open(path, encoding="utf-8") as file:
        vectors = json.load(file)
    for vector in vectors["sealed"]:
        name, purpose = vector["name"], vector["purpose"]
        master = base64.b64decode(vector["master_key"], validate=True)
        nonce, aad, plain, sealed = (
            bytes.fromhex(vector[field]) for field in ("nonce", "associated_data", "plaintext", "sealed")
        )
        assert key_id_of(master, purpose).hex() == vector["key_id"], name
        assert open_sealed(master, purpose, aad, sealed) == plain, name
        assert seal(master, purpose, nonce, aad, plain) == sealed, name
        assert all(refused(master, purpose, aad, changed) for changed in changes(sealed)), name
        assert all(refused(master, purpose, changed, sealed) for changed in changes(aad)), name
    for vector in vectors["derived"]:
        master = base64.b64decode(vector["master_key"], validate=True)
        assert bytes_of(master, vector["purpose"]).hex() == vector["bytes"], vector["purpose"]
    print(f"{len(vectors['sealed'])} sealed values open, and are made again byte for byte;")
    print(f"{len(vectors['derived'])} derived secrets are the same")


def credential(version):
    project, id_ = "00000000-0000-7000-8000-000000000001", "0193c0de-0000-7000-8000-00000000c0de"
    return f"credential {id_} {version} {project}".encode()


def make():
    counting, other = bytes(range(32)), bytes(255 - n for n in range(32))
    binary = bytes(range(256))
    cases = [
        ("a short text", counting, "tests", b"place", b"a secret value"),
        ("nothing at all", counting, "tests", b"", b""),
        ("associated data alone", counting, "tests", b"place", b""),
        ("every byte", counting, "tests", b"place", binary),
        ("a trailing newline and a dollar", counting, "credential/1", credential(1), b"pa$$word $HOME\n"),
        ("not UTF-8", counting, "credential/1", credential(2), b"\xff\xfe\x00\x80"),
        ("JSON as it came", counting, "credential/1", credential(3), b'{"b": 1.0, "a" : [1,  2]}'),
        ("the next epoch", counting, "credential/2", credential(4), b"after the bound"),
        ("another master key", other, "credential/1", credential(1), b"pa$$word $HOME\n"),
        ("a fleet's check", other, "check", b"check 0193c0de-0000-7000-8000-000000000000", b"automator67 master key"),
        ("4 KiB", other, "tests", b"place", binary * 16),
    ]
    sealed = []
    for number, (name, master, purpose, aad, plain) in enumerate(cases):
        nonce = bytes((number * 16 + at) % 256 for at in range(NONCE_LEN))
        sealed.append(
            {
                "name": name,
                "master_key": base64.b64encode(master).decode(),
                "purpose": purpose,
                "key_id": key_id_of(master, purpose).hex(),
                "nonce": nonce.hex(),
                "associated_data": aad.hex(),
                "plaintext": plain.hex(),
                "sealed": seal(master, purpose, nonce, aad, plain).hex(),
            }
        )
    derived = [
        {"master_key": base64.b64encode(master).decode(), "purpose": purpose, "bytes": bytes_of(master, purpose).hex()}
        for master, purpose in [(counting, "tests"), (counting, "cookies"), (other, "cookies")]
    ]
    # What the first version sealed, when nobody counted epochs yet.
    sealed.append(
        {
            "name": "the first version",
            "master_key": base64.b64encode(counting).decode(),
            "purpose": "tests",
            "key_id": "e2aa4d9662cb20bf",
            "nonce": "6465666768696a6b6c6d6e6f",
            "associated_data": b"place".hex(),
            "plaintext": b"a secret value".hex(),
            "sealed": "01e2aa4d9662cb20bf6465666768696a6b6c6d6e6f"
            "f98efe1834465df17ef5c13a145e722de59a7b95df15d94368333cc510cb",
        }
    )
    print(json.dumps({"sealed": sealed, "derived": derived}, indent=2))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["check", file]:
            check(file)
        case ["make"]:
            make()
        case _:
            sys.exit(__doc__)
