"""A folder in an object store (S3, Google Cloud Storage, Azure): whole files go in and out, nothing is edited there."""

from __future__ import annotations

from pathlib import Path


def below(uri: str, *names: str) -> str:
    """The URI of what lies below a folder; options behind a question mark, such as `endpoint_override`, stay there."""
    folder, mark, options = uri.partition("?")
    return "/".join([folder.rstrip("/"), *names]) + mark + options


class ObjectFolder:
    """The folder at `uri`, such as `s3://bucket/studies/first`. Credentials come from the environment or from roles.

    Raises:
        OSError: the store cannot be reached or refuses us; so do all methods.
    """

    def __init__(self, uri: str) -> None:
        from pyarrow.fs import FileSystem  # slow to import

        self._files, self._prefix = FileSystem.from_uri(uri)

    def names(self) -> list[str]:
        """Of the files directly in the folder."""
        from pyarrow.fs import FileSelector, FileType

        found = self._files.get_file_info(FileSelector(self._prefix, allow_not_found=True))
        return sorted(each.base_name for each in found if each.type == FileType.File)

    def fetch(self, path: Path) -> bool:
        """Make the file at `path` what the folder has under its name, nothing where it has nothing; says if it has."""
        content = self.get(path.name)
        if content is None:
            path.unlink(missing_ok=True)
            return False
        draft = path.with_name(f"{path.name}.fetched")
        draft.write_bytes(content)
        draft.replace(path)
        return True

    def get(self, name: str) -> bytes | None:
        """What a file holds; None where there is none."""
        try:
            with self._files.open_input_file(f"{self._prefix}/{name}") as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def put(self, name: str, content: bytes) -> None:
        """Make a file, or make it anew, in one step."""
        with self._files.open_output_stream(f"{self._prefix}/{name}") as file:
            file.write(content)

    def drop(self, name: str) -> None:
        """Delete a file, if it is there."""
        try:
            self._files.delete_file(f"{self._prefix}/{name}")
        except FileNotFoundError:
            return
