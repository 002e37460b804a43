#!/usr/bin/env bash
# Browser tests drive the system's Chromium. Where it is missing and we may install Debian
# packages, install it; elsewhere say how.
set -euo pipefail
if command -v chromium >/dev/null; then exit 0; fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
  echo "The browser tests need Chromium: install your system's 'chromium' package." >&2
  exit 1
fi
echo "Installing Chromium for the browser tests"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends chromium >/dev/null
