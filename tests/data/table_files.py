"""Parquet files and saved data sets, written as Hugging Face's ``datasets`` writes them."""

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from image_files import encoded

CLASSES = ("cat", "dog", "emu")


picture = functools.cache(encoded)


def table(
    n: int, *, start: int = 0, labels: Sequence[Any] | None = None, classes: Sequence[str] | None = CLASSES,
    image: str = "image", label: str = "label", rows: Sequence[Any] | None = None,
) -> Any:  # fmt: skip
    """Return a table of n pictures, as ``datasets`` makes it; row i is of class i % 3 and shows so."""
    import pyarrow

    numbers = range(start, start + n)
    pictures = [{"bytes": picture("rgb.jpg", label=i % 3, seed=i), "path": f"{i}.jpg"} for i in numbers]
    made = pyarrow.table(
        {image: pictures if rows is None else rows, label: [i % 3 for i in numbers] if labels is None else labels}
    )
    if classes is None:
        return made
    features = {image: {"_type": "Image"}, label: {"names": list(classes), "_type": "ClassLabel"}}
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def parquet(file: Path, made: Any) -> Path:
    import pyarrow.parquet

    file.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(made, file, row_group_size=7)
    return file


def save_to_disk(folder: Path, made: Any, files: int = 1) -> Path:
    """Write what ``Dataset.save_to_disk`` writes."""
    import pyarrow

    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{files:05d}.arrow" for i in range(files)]
    share = -(-len(made) // files)
    for i, name in enumerate(names):
        with pyarrow.OSFile(str(folder / name), "wb") as sink, pyarrow.ipc.new_stream(sink, made.schema) as writer:
            writer.write_table(made.slice(i * share, share), max_chunksize=5)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")
    return folder
