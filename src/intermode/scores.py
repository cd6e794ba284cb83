"""Files of scores: a row for each sample, a column for each detector.

* ``.parquet``: columns ``id`` and one for each detector, and in the schema's metadata, under ``intermode``, what was
  scored by what: a digest of the data, the model's weights and schedule, the detectors' settings.
* ``.csv``: the same columns under a header; or, from elsewhere, one number a line.
* ``.npy``: (n,) numbers of one detector.
* ``.safetensors``: tensors ``score.NAME``, as ``intermode sample`` writes them beside its samples.

A score that is null, empty or NaN says that the sample could not be read.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from intermode.data import Source, load_samples, save_array
from intermode.errors import InputError
from intermode.files import load_tensors, replacing

__all__ = ["Scores", "check_file", "read_classes", "read_labels", "read_scores", "scores_beside", "write_scores"]

KEY = b"intermode"
BESIDE = "score."
ROWS = 65536


@dataclass(frozen=True)
class Scores:
    """What a file of scores holds.

    Attributes:
        path: of the file, if they come from one.
        columns: (n,) float64 for each name.
        ids: (n,) of the samples, if the file has them.
        about: what was scored by what, if the file says so.
    """

    path: Path | None
    columns: Mapping[str, np.ndarray]
    ids: Sequence[str] | None = None
    about: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def column(self, name: str | None, field: str) -> tuple[str, np.ndarray]:
        """The column of that name, or the only one, with its name.

        Raises:
            InputError: no such column, or several and none named.
        """
        known = ", ".join(self.columns)
        if name is None and len(self.columns) > 1:
            advice = "there must be one" if field == "labels" else "choose one as by"
            raise InputError(f"{field}: {self.path} holds several columns ({known}); {advice}")
        name = next(iter(self.columns)) if name is None else name
        if name in self.columns:
            return name, self.columns[name]
        if set(self.columns) == {""}:  # numbers without a name
            return name, self.columns[""]
        raise InputError(f"{field}: {f'{self.path} has ' if self.path else ''}no column {name!r}; choose from {known}")

    def check_same_score(self, other: Scores, field: str) -> None:
        """Raise InputError if these are scores by another model or other settings, as far as the files can tell."""
        if self.about is None or other.about is None:
            return
        for part in ("model", "detectors"):
            if self.about[part] != other.about[part]:
                theirs, ours = self.about[part], other.about[part]
                differing = [key for key in ours if theirs.get(key) != ours[key]]
                listed = ", ".join(f"{key} is {theirs.get(key)} there and {ours[key]} here" for key in differing)
                raise InputError(f"{field}: {self.path} was scored otherwise than {other.path} ({listed})")

    def check_data(self, source: Source) -> None:
        """Raise InputError unless these are scores of that data, as far as the file can tell."""
        if len(self) != len(source):
            raise InputError(f"scores: {len(self)} for {len(source)} samples; need one for each")
        if self.about is not None and (theirs := self.about["data"]["digest"]) != (ours := source.digest()):
            raise InputError(
                f"scores: {self.path} holds scores of other data than {source.path} (digest {theirs} there, {ours} "
                "here), or of what it was before it changed"
            )
        if self.ids is not None:
            for start in range(0, len(self), ROWS):
                named, names = self.ids[start : start + ROWS], source.ids(start, min(start + ROWS, len(self)))
                for row, (theirs, ours) in enumerate(zip(named, names, strict=True), start):
                    if theirs != ours:
                        raise InputError(
                            f"scores: {self.path} holds scores of other data than {source.path} (row {row} is {theirs} "
                            f"there and {ours} here)"
                        )


def check_file(out: Path) -> None:
    """Raise InputError unless scores can be written to a file of that name."""
    if out.suffix not in (".parquet", ".npy", ".csv") or out.is_dir():
        raise InputError(f"out: {out} must be a file that ends in .parquet, .csv or .npy")


def write_scores(path: Path, source: Source, columns: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write scores of a data set, in the form that the suffix of ``path`` says.

    Args:
        path: ``.parquet``, ``.csv`` or, for one detector, ``.npy``.
        source: the data set, which gives the ids.
        columns: (n,) float64 for each detector; NaN for a sample that could not be read.
        about: what was scored by what; must hold ``data`` with the ``digest``.
    """
    if path.suffix == ".npy":
        (values,) = columns.values()
        save_array(path, values)
        return
    if path.suffix == ".csv":
        with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(["id", *columns])
            for start, stop in _pieces(len(source)):
                parts = [
                    ["" if np.isnan(v) else repr(v) for v in values[start:stop].tolist()] for values in columns.values()
                ]
                lines.writerows(zip(source.ids(start, stop), *parts, strict=True))
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [("id", pa.string()), *((name, pa.float64()) for name in columns)],
        metadata={KEY: json.dumps(dict(about), ensure_ascii=False)},
    )
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        for start, stop in _pieces(len(source)):
            # from pandas: NaN becomes null
            parts = [pa.array(values[start:stop], from_pandas=True) for values in columns.values()]
            writer.write_table(pa.Table.from_arrays([pa.array(source.ids(start, stop)), *parts], schema=schema))


def _pieces(n: int) -> list[tuple[int, int]]:
    return [(start, min(start + ROWS, n)) for start in range(0, n, ROWS)]


def read_scores(path: Path, field: str = "scores") -> Scores:
    """The columns of a file of scores, or of other numbers with a row for each sample.

    Args:
        path: see the top of this module.
        field: what the file is to the user, for errors.

    Raises:
        InputError: missing, damaged, or without a column of numbers.
    """
    if not path.is_file():
        raise InputError(f"{field}: {path} {'is not a file' if path.exists() else 'not found'}")
    if path.suffix == ".parquet":
        return _read_parquet(path, field)
    if path.suffix == ".csv" and (named := _read_csv(path, field)) is not None:
        return named
    if (beside := scores_beside(path)) is not None:
        return beside
    values = load_samples(path, (1,), finite=False, field=field, dtype=np.float64)[:, 0].numpy()
    return Scores(path, {"": values})


def scores_beside(path: Path) -> Scores | None:
    """The scores that a file of samples holds beside them; None for none, or no such file.

    Raises:
        InputError: a damaged file.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return None
    found = load_tensors(path, lambda name: name.startswith(BESIDE))[0]
    return Scores(path, {k.removeprefix(BESIDE): v.double().numpy() for k, v in found.items()}) if found else None


def read_labels(path: Path, field: str) -> tuple[list[str] | None, np.ndarray]:
    """Labels of samples, as words, with their ids if the file has them: ids or None, and (n,) words.

    Args:
        path: ``.npy`` (n,), ``.csv`` or ``.parquet`` with a column of labels and, if need be, one named ``id`` (or
            ``file_name``, as metadata of images has it), or ``.csv`` with one label a line.
        field: what the file is to the user, for errors.

    Raises:
        InputError: missing, damaged, or without one column of labels.
    """
    if not path.is_file():
        raise InputError(f"{field}: {path} {'is not a file' if path.exists() else 'not found'}")
    try:
        if path.suffix == ".npy":
            return None, np.load(path).astype(str)
        if path.suffix == ".parquet":
            import pyarrow.parquet as pq

            columns = {name: list(map(str, values)) for name, values in pq.read_table(path).to_pydict().items()}
        elif path.suffix == ".csv":
            with path.open(encoding="utf-8-sig", newline="") as file:
                rows = [row for row in csv.reader(file) if row]
            if rows and len(rows[0]) == 1 and rows[0][0] != "label":
                return None, np.array([row[0] for row in rows])
            columns = {name: [row[k] for row in rows[1:]] for k, name in enumerate(rows[0] if rows else [])}
        else:
            raise InputError(f"{field}: {path} must end in .npy, .csv or .parquet, or be the name of a column")
    except (ValueError, IndexError, EOFError, UnicodeDecodeError, csv.Error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{field}: {path} cannot be read as labels ({str(error).splitlines()[0]})") from None
    ids = next((columns.pop(name) for name in ("id", "file_name") if name in columns), None)
    if len(columns) != 1:
        raise InputError(f"{field}: {path} must hold one column of labels (found: {', '.join(columns) or 'none'})")
    return ids, np.array(next(iter(columns.values())))


def read_classes(path: Path, field: str) -> np.ndarray:
    """(n,) int64 classes in a file of labels (:func:`read_labels`).

    Raises:
        InputError: as there, or what is no whole number.
    """
    words = read_labels(path, field)[1]
    try:
        return words.astype(np.int64)
    except ValueError:
        raise InputError(f"{field}: {path} must hold whole numbers, the classes from 0") from None


def _read_parquet(path: Path, field: str) -> Scores:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{field}: {path} cannot be read as parquet ({str(error).splitlines()[0]})") from None
    kinds = {each.name: each.type for each in table.schema if each.name != "id"}
    numbers = [
        name
        for name, kind in kinds.items()
        if pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    ]
    if not numbers or len(table) == 0:
        raise InputError(f"{field}: {path} has no column of numbers (found: {', '.join(table.column_names)})")
    ids = [str(value) for value in table.column("id").to_pylist()] if "id" in table.column_names else None
    about = json.loads(table.schema.metadata[KEY]) if KEY in (table.schema.metadata or {}) else None
    columns = {name: np.asarray(table.column(name).cast(pa.float64()).to_numpy(), np.float64) for name in numbers}
    return Scores(path, columns, ids, about)


def _read_csv(path: Path, field: str) -> Scores | None:
    """None without a header, which is a first line that does not begin with a number."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            header = next(lines, [])
            if not header or _is_number(header[0]) or len(set(header)) < len(header):
                return None
            rows = [row for row in lines if row]
    except (UnicodeDecodeError, csv.Error):
        return None
    if any(len(row) != len(header) for row in rows):
        raise InputError(f"{field}: {path} has rows of another length than its header")
    columns: dict[str, np.ndarray] = {}
    for k, name in enumerate(header):
        values = [row[k] for row in rows]
        if name != "id" and all(not value or _is_number(value) for value in values):
            columns[name] = np.array([float(value or "nan") for value in values], dtype=np.float64)
    if not columns or not rows:
        raise InputError(f"{field}: {path} has no column of numbers (found: {', '.join(header)})")
    return Scores(path, columns, [row[header.index("id")] for row in rows] if "id" in header else None)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
