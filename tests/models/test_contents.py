"""What may be taken into the models folder, and which engine opens it."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest

from hybrid_router.models import contents
from hybrid_router.models.contents import Refused


def ctranslate2(name: str) -> bytes:
    """The head of a CTranslate2 file, as its converter writes it."""
    return struct.pack("<IH", 6, len(name) + 1) + name.encode() + b"\0" + bytes(64)


def arrays(*names: str) -> bytes:
    """An archive with such members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, b"x")
    return out.getvalue()


def folder_of(path: Path, files: dict[str, bytes]) -> Path:
    """A folder with these files."""
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def test_pickles_beside_safe_weights_are_left_out() -> None:
    """The same model in two formats: the safe one is taken, and every file left says why."""
    found = contents.sort(
        ["model.safetensors", "pytorch_model.bin", "config.json", "modeling.py", ".gitattributes", "cat.png"],
        "it",
    )

    assert found.taken == ("config.json", "model.safetensors")
    assert found.left == {
        ".gitattributes": "hidden, or not a name that a manifest can hold",
        "cat.png": "not read by any engine",
        "modeling.py": "code",
        "pytorch_model.bin": "a pickle",
    }


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "model.pth", "sd.ckpt", "m.pkl"])
def test_a_model_that_is_only_pickles_is_refused_by_name(name: str) -> None:
    """The error names the file and what to look for instead."""
    with pytest.raises(Refused, match=rf"{name}: a pickle runs code.*safetensors"):
        contents.sort([name, "config.json"], "it")


def test_a_folder_without_weights_is_refused() -> None:
    """Settings alone are no model: the error says where, what was looked for, and what there is."""
    said = r"no weights in my/folder: looked for \*\.gguf, .* found README\.md, config\.json; name what"
    with pytest.raises(Refused, match=said):
        contents.sort(["config.json", "README.md"], "my/folder")


def test_a_long_list_is_cut_short() -> None:
    """Five names, how many more there are, and nothing that a terminal would obey."""
    with pytest.raises(Refused, match=r"found 0\?\.jpg, 1\?\.jpg, 2\?\.jpg, 3\?\.jpg, 4\?\.jpg and 3 more;"):
        contents.sort([f"{number}\x1b.jpg" for number in range(8)], "it")
    with pytest.raises(Refused, match="found nothing;"):
        contents.sort([], "it")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.bin", pickle.dumps({"a": 1})),
        ("model.bin", arrays("archive/data.pkl")),
        ("voices.npz", arrays("a.npy", "evil.pkl")),
        ("one.npy", pickle.dumps([1])),
    ],
)
def test_a_pickle_under_another_name_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    """What is inside counts, not what it is called."""
    with pytest.raises(Refused, match="pickle"):
        contents.check(folder_of(tmp_path, {name: content}), [name])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.bin", ctranslate2("WhisperSpec")),
        ("voices-v1.0.bin", arrays("af.npy")),
        ("a.npy", b"\x93NUMPY"),
    ],
)
def test_plain_numbers_are_taken(tmp_path: Path, name: str, content: bytes) -> None:
    """CTranslate2's weights and arrays of numbers run nothing."""
    contents.check(folder_of(tmp_path, {name: content}), [name])


@pytest.mark.parametrize(
    ("name", "config", "named"),
    [
        ("config.json", {"auto_map": {"AutoModel": "modeling.Evil"}}, "trust_remote_code"),
        ("tokenizer_config.json", {"auto_map": {}}, "trust_remote_code"),
        ("modules.json", [{"type": "custom_st.Transformer"}], "custom_st.Transformer"),
        ("modules.json", ["odd"], "code of its own"),
        ("model_index.json", {"unet": ["my_unet", "UNet"]}, "my_unet"),
    ],
)
def test_a_model_with_code_of_its_own_is_refused(
    tmp_path: Path, name: str, config: object, named: str
) -> None:
    """What would make a library import the model's own modules is named, and refused."""
    folder_of(tmp_path, {f"sub/{name}": json.dumps(config).encode()})

    with pytest.raises(Refused, match=named) as caught:
        contents.check(tmp_path, [f"sub/{name}"])
    assert f"sub/{name}" in caught.value.message


@pytest.mark.parametrize("content", [b"{", b"[" * 100_000, b'{"auto_map": 1}' + b" " * (4 << 20)])
def test_settings_that_cannot_be_read_are_not_trusted(tmp_path: Path, content: bytes) -> None:
    """Broken, nested without end, or far too long: what nobody could look at is refused."""
    with pytest.raises(Refused, match=r"config\.json cannot be read"):
        contents.check(folder_of(tmp_path, {"config.json": content}), ["config.json"])


@pytest.mark.parametrize(
    ("files", "engine"),
    [
        ({"model_index.json": b"{}", "unet/model.safetensors": b""}, "images"),
        ({"modules.json": b"[]", "model.safetensors": b""}, "sentence_transformers"),
        ({"model.bin": ctranslate2("WhisperSpec")}, "whisper"),
        ({"model.bin": ctranslate2("TransformerSpec")}, "translate"),
        ({"model.bin": b"other"}, ""),
        ({"hibari.onnx": b"", "voices.json": b"{}"}, "speech"),
        ({"net.onnx": b""}, ""),
        ({"a.gguf": b"GGUF"}, "llama"),
        ({"config.json": b'{"architectures": ["ViTForImageClassification"]}'}, "classify"),
        (
            {"config.json": b'{"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}}'},
            "sentence_transformers",
        ),
        (
            {"config.json": b'{"architectures": ["XForSequenceClassification"], "id2label": {"0":0,"1":1}}'},
            "moderate",
        ),
        ({"config.json": b'{"architectures": ["LlamaForCausalLM"]}'}, ""),
        ({"config.json": b"[[["}, ""),
    ],
)
def test_the_engine_is_told_from_the_files(tmp_path: Path, files: dict[str, bytes], engine: str) -> None:
    """What only one engine opens is that engine's; anything else is left to be said."""
    assert contents.engine_of(folder_of(tmp_path, files), files) == engine
