#!/usr/bin/env bash
# Installs what some tests need and a laptop may lack, on Debian, as root: Chromium, a library that Playwright needs,
# and a font for tests/browser; a server with TLS; `ip`, which makes the hosts of tests/faults.
set -euo pipefail

packages=(chromium libatomic1 fonts-dejavu-core redis-server iproute2)
is_installed() {
  local package
  for package in "${packages[@]}"; do
    [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2> /dev/null)" = installed ] || return 1
  done
}

is_installed && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get > /dev/null; then
  echo "install.sh: some tests need Debian's packages ${packages[*]}; to install them takes root and apt-get." >&2
  exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq --yes --no-install-recommends -o DPkg::Lock::Timeout=120 "${packages[@]}" < /dev/null
