"""Images that claim too many pixels, unfold, move, are cut off, carry junk, or are something else as well."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

from hostile.case import Case, Make, Row, family
from PIL import Image
from plugins.forge import Forge

BROKEN = "dataset.broken_images"
_PNG = b"\x89PNG\r\n\x1a\n"
_HUGE = 60_000
Picture = Callable[[Forge], bytes]


def _among(picture: Picture, name: str = "train/dog/bad.png") -> Make:
    """A good dataset with this image in it."""
    return lambda forge: forge.zip({**forge.folder(), name: picture(forge)})


def _bytes(body: bytes) -> Picture:
    return lambda _: body


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, *chunks: bytes, data: bytes = b"x", colour: int = 2) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return _PNG + head + b"".join(chunks) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def _small(*chunks: bytes) -> bytes:
    """A good PNG of 8x8 grey pixels with more chunks."""
    rows = zlib.compress(b"".join(b"\0" + bytes(range(row, row + 8)) for row in range(8)))
    return _png(8, 8, *chunks, data=rows, colour=0)


def _gif(width: int, height: int) -> bytes:
    size = struct.pack("<HH", width, height)
    frame = b"\x2c\0\0\0\0" + size + b"\0\x02\x02\x44\x01\0"
    return b"GIF89a" + size + b"\x80\0\0\0\0\0\xff\xff\xff" + frame + b";"


def _many_frames(forge: Forge) -> bytes:
    """One good frame, 100,000 times."""
    whole = forge.png(1, (8, 8), "L", "GIF")
    start = whole.index(b"\x2c\0\0\0\0")
    return whole[:start] + whole[start:-1] * 10**5 + b";"


def _bmp(width: int, height: int, compression: int = 0) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, compression, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 12, 0, 0, 54) + info + bytes(12)


def _tiff(width: int, height: int, **more: int) -> bytes:
    """A TIFF of one strip of grey pixels; `more` are further fields, as t123=value."""
    fields = {256: width, 257: height, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: height, 279: 4}
    fields |= {int(name[1:]): value for name, value in more.items()}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(fields.items()))
    head = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(fields)) + entries + bytes(4)
    return head.ljust(200, b"\0") + bytes(64)


def _tiff_ring(_: Forge) -> bytes:
    """Its next directory is itself, for ever."""
    body = bytearray(_tiff(8, 8, t279=64))
    count = struct.unpack_from("<H", body, 8)[0]
    struct.pack_into("<I", body, 10 + 12 * count, 8)
    return bytes(body)


def _jpeg(width: int, height: int) -> bytes:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + frame + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x00\xff\xd9"


def _webp(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def _text_chunk(kind: bytes) -> bytes:
    """20 MB of compressed text, in 20 kB."""
    text = zlib.compress(bytes(20 * 2**20), 9)
    return chunk(kind, b"key\0" + (b"\0" if kind == b"zTXt" else b"\x01\0\0\0") + text)


def _profile() -> bytes:
    """A colour profile of 80 MB, in 80 kB."""
    return chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(80 * 2**20), 9))


def _animated(format: str, frames: int) -> Picture:
    def make(_: Forge) -> bytes:
        content = io.BytesIO()
        first, *rest = (Image.new("L", (8, 8), n % 251) for n in range(frames))
        first.save(content, format, save_all=True, append_images=rest)
        return content.getvalue()

    return make


def _cut(format: str, share: float) -> Picture:
    def make(forge: Forge) -> bytes:
        whole = forge.png(1, (32, 32), "RGB", format)
        return whole[: int(len(whole) * share)]

    return make


def _then(behind: Callable[[Forge], bytes]) -> Picture:
    return lambda forge: forge.png(3) + behind(forge)


def _html(_: Forge) -> bytes:
    return _small(chunk(b"tEXt", b"Comment\0<script>alert(1)</script><?php system('id') ?>"))


def cases() -> Iterator[Case]:
    """All of them."""
    large = {
        "PNG": _png(_HUGE, _HUGE),
        "PNG of 2^31 columns": _png(2**31 - 1, 1),
        "JPEG": _jpeg(65_000, 65_000),
        "GIF": _gif(65_535, 65_535),
        "BMP": _bmp(_HUGE, _HUGE),
        "BMP upside down": _bmp(_HUGE, -_HUGE),
        "BMP of runs": _bmp(_HUGE, _HUGE, 1),
        "TIFF": _tiff(_HUGE, _HUGE),
        "TIFF of 2^32 columns": _tiff(2**32 - 1, 2**32 - 1),
        "WebP": _webp(16_384, 16_384),
        "PPM": b"P5 60000 60000 255\n" + bytes(99),
        "PPM of 10^30 columns": b"P5 " + b"9" * 30 + b" 1 255\n",
        "PPM of text": b"P2 60000 60000 255\n0 1 2",
    }
    yield from family("pixel bombs", "dataset", {n: (_among(_bytes(b)), BROKEN) for n, b in large.items()})
    unfolding: dict[str, Row] = {
        "text of 20 MB (zTXt)": (_among(_bytes(_small(_text_chunk(b"zTXt")))), BROKEN),
        "text of 20 MB (iTXt)": (_among(_bytes(_small(_text_chunk(b"iTXt")))), BROKEN),
        "a colour profile of 80 MB": (_among(_bytes(_small(_profile()))), BROKEN),
        "rows for a thousand images": (
            _among(_bytes(_png(8, 8, data=zlib.compress(bytes(10**7)), colour=0))),
            "",
        ),
        "a TIFF strip of 4 GB": (_among(_bytes(_tiff(8, 8, t279=2**32 - 1))), ""),
        "a TIFF of 4 GB a row": (_among(_bytes(_tiff(8, 8, t258=2**32 - 1))), BROKEN),
        "a TIFF of 65,535 samples a pixel": (_among(_bytes(_tiff(8, 8, t277=65_535))), BROKEN),
        "a TIFF whose directory is its own successor": (_among(_tiff_ring), ""),
    }
    yield from family("images that unfold", "dataset", unfolding)
    yield from family(
        "images that move",
        "dataset",
        {
            "a GIF of 100,000 frames": (_among(_many_frames), ""),
            "a GIF of 300 good frames": (_among(_animated("GIF", 300)), ""),
            "a WebP of 100 frames": (_among(_animated("WEBP", 100)), ""),
            "a PNG that claims 2^32 frames": (
                _among(_bytes(_small(chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0))))),
                "",
            ),
            "a TIFF of 300 pages": (_among(_animated("TIFF", 300)), ""),
        },
    )
    cuts: dict[str, Row] = {
        f"{format} after {share:.0%}": (_among(_cut(format, share)), BROKEN)
        for format, share in [
            ("PNG", 0.1),
            ("PNG", 0.9),
            ("JPEG", 0.1),
            ("JPEG", 0.7),
            ("GIF", 0.1),
            ("BMP", 0.5),
            ("TIFF", 0.5),
            ("WEBP", 0.5),
            ("PPM", 0.5),
        ]
    }
    yield from family("images cut off", "dataset", cuts)
    nothing = {
        "empty": b"",
        "text": b"text",
        "a JPEG's first bytes": b"\xff\xd8\xff\xe0",
        "a GIF's first bytes": b"GIF89a",
        "a BMP of zeros": b"BM" + bytes(50),
        "a TIFF of zeros": b"II*\x00" + bytes(20),
        "no pixel": b"P5 0 8 255\n",
        "a PostScript program": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n(x) run\n",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "a Windows metafile": b"\xd7\xcd\xc6\x9a" + bytes(40),
        "an executable": b"\x7fELF" + bytes(60),
        "a zip": b"PK\x05\x06" + bytes(18),
    }
    yield from family(
        "images that are none", "dataset", {n: (_among(_bytes(b)), BROKEN) for n, b in nothing.items()}
    )
    yield from family(
        "images with passengers",
        "dataset",
        {
            "a zip behind a PNG": (_among(_then(lambda forge: forge.zip({"../x": b"x"}))), ""),
            "an HTML page in a PNG": (_among(_html), ""),
            "a colour profile of junk": (
                _among(_bytes(_small(chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"junk" * 99))))),
                "",
            ),
            "EXIF of junk": (_among(_bytes(_small(chunk(b"eXIf", b"Exif\0\0II*\0" + b"\xff" * 500)))), ""),
            "a gamma of nothing": (_among(_bytes(_small(chunk(b"gAMA", bytes(4))))), ""),
            "a palette of one for 256": (
                _among(
                    _bytes(
                        _png(
                            8,
                            8,
                            chunk(b"PLTE", b"\1\2\3"),
                            data=zlib.compress(b"\0\xff\xfe\xfd\xfc\xfb\xfa\xf9\xf8" * 8),
                            colour=3,
                        )
                    )
                ),
                "",
            ),
            "1,000 chunks of nothing": (_among(_bytes(_small(*[chunk(b"teSt", b"")] * 1000))), ""),
        },
        image_size=8,
    )
    yield from family(
        "pixels that are not pixels",
        "dataset",
        {
            "32-bit numbers": (
                _among(lambda forge: forge.image(Image.new("I", (8, 8), 70_000), "TIFF")),
                BROKEN,
            ),
            "floats": (_among(lambda forge: forge.image(Image.new("F", (8, 8), 0.5), "TIFF")), BROKEN),
            "sizes that differ": (_among(lambda forge: forge.png(9, (9, 8))), "dataset.mixed_sizes"),
            "too few": (lambda forge: forge.zip(forge.folder(size=(3, 3))), "dataset.image_size"),
            "too many": (
                lambda forge: forge.zip(forge.folder(train=1, size=(1025, 8))),
                "dataset.image_size",
            ),
        },
    )
