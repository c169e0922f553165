"""Model folders on disk and on the Hugging Face Hub: found, read within bounds, sealed with checksums, pushed."""

from jepa_actions.hub.checksums import CHECKSUMS, changed_files, file_facts, read_checksums, seal
from jepa_actions.hub.files import CONFIG, MAX_JSON, foreign_files, read_bytes, regular_file, strict_json
from jepa_actions.hub.find import Source, hub_errors, resolve_folder, source_of
from jepa_actions.hub.push import push_folder

__all__ = [
    "CHECKSUMS",
    "CONFIG",
    "MAX_JSON",
    "Source",
    "changed_files",
    "file_facts",
    "foreign_files",
    "hub_errors",
    "push_folder",
    "read_bytes",
    "read_checksums",
    "regular_file",
    "resolve_folder",
    "seal",
    "source_of",
    "strict_json",
]
