"""The clone a mission works in: made from the named repository, which is only read.

`base.git` is a bare clone that stays as it was; every work tree is checked out from it. What a mission changed is
found by comparing its work tree with `base.git`, so a mission that spoils its own `.git` loses nothing.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ua_vp

HEAD = "HEAD"
GIT = ("git", "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false")
ENVIRONMENT = {
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C.UTF-8",
}
DIFF = ("diff", "--cached", "--no-color", "--no-ext-diff", "--no-textconv", "--no-renames")


class CloneError(ua_vp.VpError):
    """A step of git did not succeed; the text names it, and what git said."""

    code = "workspace_error"


@dataclass(frozen=True, kw_only=True, slots=True)
class Changes:
    """What a work tree holds beyond its base: the `tree` git made of it, and git's own short count of it."""

    tree: str
    short: str
    """`3 files changed, 10 insertions(+), 4 deletions(-)`; empty if nothing was changed."""
    stat: str
    """git's table of changed files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clone:
    """A private copy of `repository`, with `base` as its starting point."""

    ctx: ua_vp.MissionContext
    repository: Path
    base: str
    """The base commit's id."""

    @classmethod
    def make(cls, ctx: ua_vp.MissionContext, repository: Path, revision: str) -> "Clone":
        """Copy `repository` into scratch and resolve `revision` to a commit of it.

        Raises:
            CloneError: no repository, or no such commit; says which.
        """
        _trust(ctx, repository)
        above = {"GIT_CEILING_DIRECTORIES": str(repository.parent)}
        reading = ("-C", str(repository), "rev-parse")
        _git(ctx, *reading, "--git-dir", env=above, failing=f"{repository} is not the top of a git repository")
        missing = f"{repository} has no commit {revision!r}; name a branch, a tag or a commit id of it"
        verify = ("--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
        base = _git(ctx, *reading, *verify, env=above, failing=missing)
        copying = ("clone", "--bare", "--no-hardlinks", "--template=", "--quiet")
        _git(ctx, *copying, "--", str(repository), str(ctx.scratch / "base.git"), failing=f"cannot clone {repository}")
        clone = cls(ctx=ctx, repository=repository, base=base)
        clone._bare("cat-file", "-e", f"{base}^{{commit}}", failing=f"{missing} (it is not in a clone)")
        return clone

    def check_out(self, name: str) -> Path:
        """A fresh work tree of the base commit, `scratch/<name>`, a repository of its own without a remote."""
        folder = self.ctx.scratch / name
        source = str(self.ctx.scratch / "base.git")
        cloning = ("clone", "--shared", "--no-checkout", "--template=", "--quiet")
        _git(self.ctx, *cloning, "--", source, str(folder), failing="cannot make a work tree")
        inside = ("-C", str(folder))
        _git(self.ctx, *inside, "remote", "remove", "origin", failing="cannot make a work tree")
        _git(self.ctx, *inside, "checkout", "--quiet", "--detach", self.base, failing=f"cannot check out {self.base}")
        return folder

    def lend(self, folder: Path) -> None:
        """Make the mission's folders reachable by name in a work tree, where the repository has nothing of that name."""
        for target in self._lent():
            if not os.path.lexists(folder / target.name):
                (folder / target.name).symlink_to(target)

    def take_back(self, folder: Path) -> None:
        """Undo `lend`, so that the links are no change; what the mission put in their place stays."""
        for target in self._lent():
            link = folder / target.name
            if link.is_symlink() and link.readlink() == target:
                link.unlink()

    def _lent(self) -> tuple[Path, ...]:
        return self.ctx.work_products, self.ctx.supporting, self.ctx.inputs

    def changes(self, folder: Path, patch: Path) -> Changes:
        """Compare the work tree `folder` with the base, new files included, and write the difference to `patch`.

        Files that the repository ignores are not part of it.
        """
        index = {"GIT_INDEX_FILE": str(self.ctx.scratch / "changes.index")}
        failing = "cannot read the changes"
        self._bare("read-tree", self.base, env=index, failing=failing)
        self._bare("--work-tree", str(folder), "add", "--all", "--", ".", env=index, cwd=folder, failing=failing)
        prefixes = ("--src-prefix=a/", "--dst-prefix=b/")
        written = f"--output={patch}"
        self._bare(*DIFF, "--binary", "--full-index", *prefixes, written, self.base, env=index, failing=failing)
        return Changes(
            tree=self._bare("write-tree", env=index, failing=failing),
            short=self._bare(*DIFF, "--shortstat", self.base, env=index, failing=failing).strip(),
            stat=self._bare(*DIFF, "--stat=100", self.base, env=index, failing=failing),
        )

    def apply(self, patch: Path, folder: Path, *, tree: str) -> None:
        """Apply `patch` to the fresh work tree `folder`, and see that it makes exactly `tree` of it.

        Raises:
            CloneError: it does not.
        """
        inside = ("-C", str(folder))
        failing = "the patch does not apply to the base commit"
        _git(self.ctx, *inside, "apply", "--index", "--whitespace=nowarn", "--", str(patch), failing=failing)
        made = _git(self.ctx, *inside, "write-tree", failing=failing)
        if made != tree:
            raise CloneError(f"the patch does not make of the base commit what the mission made of it ({made}, {tree})")

    def _bare(
        self, *arguments: str, failing: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> str:
        where = f"--git-dir={self.ctx.scratch / 'base.git'}"
        return _git(self.ctx, where, *arguments, failing=failing, env=env, cwd=cwd)


def _git(
    ctx: ua_vp.MissionContext,
    *arguments: str,
    failing: str,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """What git wrote to standard output, without the last line's end.

    Raises:
        CloneError: `failing`, and git's last words.
    """
    ctx.log(f"git {' '.join(arguments)}".replace(str(ctx.scratch), "scratch"))
    try:
        finished = ctx.run([*GIT, *arguments], cwd=cwd or ctx.scratch, env={**ENVIRONMENT, **(env or {})}, capture=True)
    except OSError as error:
        raise CloneError(f"{failing}: {error.strerror or error}") from error
    if finished.code != 0:
        said = finished.tail.decode("utf-8", errors="replace").strip()
        raise CloneError(f"{failing}{f'; git said: {said}' if said else ''}")
    return finished.stdout.decode("utf-8", errors="replace").rstrip("\n")


def _trust(ctx: ua_vp.MissionContext, repository: Path) -> None:
    """Let git read a repository that another user owns; only in this mission's HOME, and no option `-c` does it."""
    quoted = (
        str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for path in (repository, repository / ".git")
    )
    directories = "".join(f'\tdirectory = "{path}"\n' for path in quoted)
    text = f"[safe]\n{directories}[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
    (ctx.scratch / "home" / ".gitconfig").write_text(text, encoding="utf-8", errors="surrogateescape")
