#!/usr/bin/env bash
# Installs circuit-nb: on Google Colab without changing anything that is preinstalled there,
# elsewhere into the active virtual environment or a new one (.venv). May be run again.
#
#   bash colab_setup.sh
#
# CIRCUIT_NB_SOURCE   what to install; by default the checkout this file stands in, else the
#                     repository
# CIRCUIT_NB_VENV     where to make a virtual environment, if one is needed (default: .venv)
set -euo pipefail

repository="https://github.com/circuit-nb/circuit-nb"
here="$(cd "$(dirname "${BASH_SOURCE[0]:-.}")" && pwd)"
if [ -n "${CIRCUIT_NB_SOURCE:-}" ]; then
  source="$CIRCUIT_NB_SOURCE"
elif [ -f "$here/pyproject.toml" ] && grep -q '^name = "circuit-nb"' "$here/pyproject.toml"; then
  source="$here"
else
  source="git+$repository"
fi

# Which Python: Colab's own, the active environment's, or that of a new environment.
on_colab=no
if python3 -c 'import google.colab' 2>/dev/null; then on_colab=yes; fi
if [ "$on_colab" = yes ] || [ -n "${VIRTUAL_ENV:-}" ]; then
  python=python3
  [ -z "${VIRTUAL_ENV:-}" ] || python="$VIRTUAL_ENV/bin/python"
else
  venv="${CIRCUIT_NB_VENV:-.venv}"
  [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
  python="$(cd "$venv/bin" && pwd)/python"
fi
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
  { echo "circuit-nb needs Python 3.10 or newer." >&2; exit 1; }

# Everything that is installed stays at its version: pip may add packages, never change one.
# Only outside Colab may a new environment's own old build tools be renewed, as torch asks for.
tools="pip setuptools wheel"
if [ "$on_colab" = yes ]; then tools=""; fi
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
versions() {
  "$python" - $tools <<'PYTHON'
import sys
from importlib.metadata import distributions

left_out = {"circuit-nb", *sys.argv[1:]}
found = {}
for package in distributions():
    name = package.metadata["Name"]
    if name and name.lower().replace("_", "-") not in left_out:
        found.setdefault(name.lower(), package.version)  # the first on the path is used
print("\n".join(f"{name}=={version}" for name, version in sorted(found.items())))
PYTHON
}
versions > "$work/before.txt"

echo "Installing circuit-nb from $source"
if ! "$python" -m pip install --quiet --disable-pip-version-check \
    --constraint "$work/before.txt" "$source"; then
  echo "circuit-nb does not fit the packages that are installed here (see above);" >&2
  echo "a new virtual environment avoids that: deactivate, then bash colab_setup.sh" >&2
  exit 1
fi

versions > "$work/after.txt"
changed="$(comm -23 <(sort "$work/before.txt") <(sort "$work/after.txt"))"
if [ -n "$changed" ]; then
  echo "These packages changed although they should not have: $changed" >&2
  exit 1
fi
added="$(comm -13 <(sort "$work/before.txt") <(sort "$work/after.txt") | wc -l)"
echo "Installed; $added packages added, none changed."

(cd "$work" && "$python" -m circuit_nb.hub.machine)
if [ "$on_colab" = yes ]; then
  echo "(A Colab secret HF_TOKEN is seen when the notebook runs, not by this script.)"
else
  echo "Python: $python"
fi
