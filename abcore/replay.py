"""A job run again from its manifest: `python -m abcore.replay manifest.json --dataset FILE --teacher FILE FOLDER`.

The files are those that were uploaded; what they verify to is held against the manifest before anything is trained.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from abcore import run
from abcore.atomic import write_atomically
from abcore.ingest import verify_dataset, verify_teacher
from abcore.specs.manifests import Manifest
from abcore.specs.refusals import Refusal
from abcore.specs.runs import ExitCode, VerifyDatasetRun, VerifyTeacherRun

PROMISED = "student.safetensors"
OTHER_BITS = 1


def main(arguments: list[str] | None = None) -> int:
    """Run a manifest; return 0 where the student has the same bits, 1 where not, else as `abcore.run` does.

    Interrupted by SIGTERM (75), it goes on where it was when it is called again with the same folder.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    workspace: Path = options.workspace
    try:
        manifest = Manifest.model_validate_json(options.manifest.read_bytes())
        lay_out(manifest, options.workspace, _uploads(manifest, options))
    except OSError as error:
        parser.error(f"{error.filename}: {error.strerror}")
    except ValidationError as error:
        first = error.errors()[0]
        parser.error(f"{error.title}: {'.'.join(map(str, first['loc']))}: {first['msg']}")
    except (Refusal, OtherInput) as error:
        parser.error(str(error))
    ended = run.main([str(workspace)])
    if ended != ExitCode.DONE:
        return ended
    again = Manifest.model_validate_json((workspace / "outputs" / "manifest.json").read_bytes())
    print("\n".join(differences(manifest, again)))
    return 0 if again.outputs[PROMISED] == manifest.outputs[PROMISED] else OTHER_BITS


class OtherInput(Exception):
    """An input is missing, or is not the one that the manifest names."""


class Upload(NamedTuple):
    """A file as it was uploaded, and how it was verified."""

    file: Path
    verification: VerifyDatasetRun | VerifyTeacherRun


def lay_out(manifest: Manifest, workspace: Path, uploads: dict[str, Upload]) -> None:
    """Lay out the workspace of a manifest's run: `run.json`, and its inputs as verification leaves them.

    Raises:
        OtherInput: an upload is missing, or verifies to another sha256.
        OSError, Refusal: it cannot be read, is unusable.
    """
    (workspace / "inputs").mkdir(parents=True, exist_ok=True)
    for name, sha256 in manifest.inputs.items():
        if name not in uploads:
            raise OtherInput(f"The run had a {name}: give --{name} FILE.")
        upload, target = uploads[name], workspace / "inputs" / f"{name}.safetensors"
        if _sha256_of(upload.file) == sha256:  # verified already: an artifact of a teacher's training
            shutil.copyfile(upload.file, target)
            continue
        with tempfile.TemporaryDirectory(dir=workspace) as folder:
            verified = _verify(upload, Path(folder)) / target.name
            found = _sha256_of(verified)
            if found != sha256:
                raise OtherInput(
                    f"--{name} is another {name} than the run's: verified, its sha256 is {found}, not {sha256}. Give "
                    "the file that was uploaded, and the settings that the dataset was made with."
                )
            verified.replace(target)
    write_atomically(workspace / "run.json", manifest.run.model_dump_json(indent=2).encode())


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _verify(upload: Upload, folder: Path) -> Path:
    """Verify a copy of an upload in an empty folder; return the folder of what it leaves."""
    for made in ("inputs", "outputs"):
        (folder / made).mkdir()
    shutil.copyfile(upload.file, folder / "inputs" / "upload")
    match upload.verification:
        case VerifyDatasetRun():
            verify_dataset(upload.verification, folder)
        case VerifyTeacherRun():
            verify_teacher(upload.verification, folder)
    return folder / "outputs"


def differences(manifest: Manifest, again: Manifest) -> list[str]:
    """Say of each file whether its bits are the same, then what is different about where it was computed."""
    lines = []
    for name, sha256 in manifest.outputs.items():
        found = again.outputs.get(name, "not made")
        lines.append(f"{name}: " + ("the same bits" if found == sha256 else f"{found}, was {sha256}"))
    then, now = (_flat(one) for one in (manifest, again))
    lines += [f"{name}: {now.get(name)}, was {then[name]}" for name in then if now.get(name) != then[name]]
    return lines


def _flat(manifest: Manifest) -> dict[str, str]:
    environment = manifest.environment
    return {"device": environment.device, "cpu": environment.cpu} | environment.versions


def _uploads(manifest: Manifest, options: argparse.Namespace) -> dict[str, Upload]:
    given = {}
    if options.dataset is not None:
        verification = VerifyDatasetRun(
            filename=options.dataset.name,
            image_size=options.image_size,
            holdout_fraction=options.holdout_fraction,
        )
        given["dataset"] = Upload(options.dataset, verification)
    if options.teacher is not None and manifest.run.teacher is not None:
        given["teacher"] = Upload(options.teacher, VerifyTeacherRun(model=manifest.run.teacher))
    return given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m abcore.replay", description="Run a job again from its manifest.json, here."
    )
    parser.add_argument("manifest", type=Path, help="manifest.json of the job")
    parser.add_argument("workspace", type=Path, help="folder to work in; the student comes into its outputs/")
    parser.add_argument("--dataset", type=Path, help="the file that was uploaded as the dataset")
    parser.add_argument(
        "--teacher", type=Path, help="the file that was uploaded as the teacher, if there was one"
    )
    parser.add_argument("--image-size", type=int, help="the dataset's `image_size`, if it was given one")
    parser.add_argument(
        "--holdout-fraction",
        type=float,
        default=VerifyDatasetRun.model_fields["holdout_fraction"].default,
        help="the dataset's `holdout_fraction`  [default: %(default)s]",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
