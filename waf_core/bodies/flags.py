"""What is odd about a multipart body."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Flags:
    """MULTIPART_* of the reference manual.  `strict_error` is the union of the others."""

    boundary_quoted: bool = False
    boundary_whitespace: bool = False
    data_before: bool = False
    data_after: bool = False
    header_folding: bool = False
    lf_line: bool = False
    crlf_lf_lines: bool = False
    missing_semicolon: bool = False
    invalid_quoting: bool = False
    invalid_part: bool = False
    invalid_header_folding: bool = False
    file_limit_exceeded: bool = False
    unmatched_boundary: int = 0
    """1: start or end boundary missing, or one that not all servers take for one (within a line, blanks behind it);
    2: complete, but other lines start with `--`."""

    @property
    def strict_error(self) -> bool:
        return (
            self.boundary_quoted
            or self.boundary_whitespace
            or self.data_before
            or self.data_after
            or self.header_folding
            or self.lf_line
            or self.missing_semicolon
            or self.invalid_quoting
            or self.invalid_part
            or self.invalid_header_folding
            or self.file_limit_exceeded
        )
