"""Encodings are recognized, or reported as uncertain; none is taken for another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from celltune.data_prep.tables.encodings import guess_encoding

WESTERN = {
    "Danish": "Denne film er meget god, og slutningen på øen er kærlig, men lidt for lang",
    "English": "This “film” is great\u2013the best café scene, naïve but worth £5, Mr. Forman™",
    "Finnish": "Tämä elokuva on hyvä, suosittelen sitä kaikille, eivätkä näyttelijät väsy, šakki",
    "French": "Très bon, où la forêt et le cœur naïf sont là, même si ça dure, d\u2019accord, Noël",
    "German": "Sehr schön, ich würde ihn jedem empfehlen, der Märchen und große Gefühle mag",
    "Icelandic": "Þessi mynd er mjög góð fyrir alla sem elska ástir, en það er ýmislegt í henni",
    "Portuguese": "Não há ações à toa, são três irmãos e ótimas lições, você está lá, útil",
    "Spanish": "Está película es muy buena, el niño está aquí, según creo, un pingüino único",
}

OTHERS = {
    "Arabic": ("windows-1256", "an English review with one word, سلام, and many other letters"),
    "Croatian": ("windows-1250", "Završetak je predugačak, režija odlična, žao mi je što traje"),
    "Czech": ("windows-1250", "Závěr byl trochu zdlouhavý, příběhy o lásce, režie je skvělá, že"),
    "Greek": ("windows-1253", "an English review with one word, καλό, and many other letters"),
    "Hungarian": ("windows-1250", "A befejezés hosszú, a színészek meggyőzőek, őszinte és jó"),
    "Lithuanian": ("windows-1257", "labai geras, tikrai šiek tiek per ilgas, režisūra mėgsta"),
    "Russian": ("windows-1251", "an English review with one word, хорошо, and many other letters"),
    "Turkish": (
        "windows-1254",
        "çok güzel, aşk hikayesi, sonu biraz uzundu, inand\u0131r\u0131c\u0131 değildi",
    ),
    "French of DOS": ("cp850", "Ce film est très bon, les élèves étaient là, à côté, même âgés"),
}


@pytest.mark.parametrize("language", WESTERN)
def test_western_languages_are_windows_1252(tmp_path: Path, language: str) -> None:
    path = tmp_path / "r.csv"
    path.write_bytes(f"text,label\n{WESTERN[language]}\n".encode("windows-1252"))
    assert guess_encoding(path, None)[0] == "windows-1252"


@pytest.mark.parametrize("language", OTHERS)
def test_no_other_encoding_is_taken_for_windows_1252(tmp_path: Path, language: str) -> None:
    encoding, text = OTHERS[language]
    path = tmp_path / "r.csv"
    path.write_bytes(f"text,label\n{text}\n".encode(encoding))
    found, reason = guess_encoding(path, None)
    assert found is None
    assert "its encoding is not certain. Set data.encoding" in reason
