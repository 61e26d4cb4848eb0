#!/usr/bin/env bash
# Installs what tests/browser needs, on Debian, as root: Chromium, a library that Playwright needs, and a font.
set -euo pipefail

packages=(chromium libatomic1 fonts-dejavu-core)
is_installed() {
  local package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2> /dev/null)" = installed ] || return 1
  done
}

is_installed && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
  echo "install.sh: the browser tests need Debian's packages ${packages[*]}; to install them takes root and apt-get." >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends -o DPkg::Lock::Timeout=120 "${packages[@]}" < /dev/null
