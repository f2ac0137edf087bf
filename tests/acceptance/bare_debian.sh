#!/bin/bash
# A bare Debian 12 and a plain user on it, for tests. Needs root and mmdebstrap.
#   bare_debian.sh build ROOT PACKAGE…          make the root file system, with the packages
#   bare_debian.sh run ROOT CHECKOUT COMMAND…   clone HEAD of CHECKOUT into a throw-away copy of it and run each COMMAND
#                                               there as the plain user; says how long it took and what it left running
# Mirrors, proxies and certificates are the machine's own: nothing here names a host.
set -euo pipefail

PASSED_ON='PIP_(.*INDEX.*|CERT|TRUSTED_HOST|DEFAULT_TIMEOUT)|UV_.*(INDEX|CERTS).*|SSL_CERT_.*|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE|[a-zA-Z]+_(proxy|PROXY)'

build() { # ROOT PACKAGE…
  local root=$1 sources packages
  shift; packages=$(IFS=,; echo "$*")
  mapfile -t sources < <(grep -ls '\bbookworm\b.*\bmain\b\|^Suites:.*\bbookworm\b' /etc/apt/sources.list /etc/apt/sources.list.d/*.{list,sources})
  apt-config dump | grep -E '^Acquire::(https?|Retries|ForceIPv|Check-)' >"$root.apt" || true
  rm -rf "$root.part"
  mmdebstrap --quiet --mode=root --variant=minbase --include="$packages" --aptopt="$root.apt" \
    bookworm "$root.part" "${sources[@]}" # with no sources of the machine's own, Debian's
  useradd --root "$root.part" --create-home --shell /bin/bash newcomer
  rm "$root.apt"; mv "$root.part" "$root" # whole or not at all
}

run() { # ROOT CHECKOUT COMMAND… ; everything it starts and mounts ends with its namespaces
  over=$(mktemp -d "$(dirname "$1")/run.XXXXXX")
  trap 'rm -rf "$over"' EXIT
  unshare --mount --pid --fork --kill-child --propagation private "$BASH" "$0" inside "$over" "$@"
}

inside() { # OVER ROOT CHECKOUT COMMAND… ; the first process of its own namespace
  local over=$1 lower=$2 checkout=$3 root=$1/merged
  shift 3
  mkdir "$over/changes" "$over/work" "$root"
  mount -t overlay overlay -o "lowerdir=$lower,upperdir=$over/changes,workdir=$over/work" "$root"
  mount --rbind /dev "$root/dev"
  mount -t proc proc "$root/proc"
  hand_over_network_settings "$root"
  git clone --quiet --no-hardlinks "$checkout" "$root/home/newcomer/ua-vp"
  chroot "$root" chown -R newcomer: /home/newcomer
  for command; do as_newcomer "$root" "$command"; done
}

hand_over_network_settings() { # ROOT
  local root=$1 file
  cp /etc/resolv.conf /etc/hosts "$root/etc/"
  for file in /etc/ssl/certs/ca-certificates.crt ${SSL_CERT_FILE-} ${PIP_CERT-} ${REQUESTS_CA_BUNDLE-} ${CURL_CA_BUNDLE-}; do
    [ ! -f "$file" ] || install -D -m 644 "$file" "$root$file"
  done
  for file in /etc/pip.conf ~/.pip/pip.conf ~/.config/pip/pip.conf "${PIP_CONFIG_FILE-}"; do
    [ ! -f "$file" ] || install -m 644 "$file" "$root/etc/pip.conf"
  done
}

as_newcomer() { # ROOT COMMAND
  local passed start code=0 seconds
  mapfile -t passed < <(env | grep -E "^($PASSED_ON)=")
  start=${EPOCHREALTIME/./}
  chroot "$1" setpriv --reuid=newcomer --regid=newcomer --init-groups env -i "${passed[@]}" HOME=/home/newcomer \
    USER=newcomer LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin bash -c "cd ~/ua-vp && $2" </dev/null || code=$?
  seconds=$(((${EPOCHREALTIME/./} - start) / 100000))
  echo "ran: exit $code, $((seconds / 10)).$((seconds % 10)) s, left running: $(left_running "$1"): $2"
  return "$code"
}

left_running() { # ROOT ; the names of the processes in this namespace that this script did not start, or none
  local folder names=()
  for folder in "$1"/proc/[0-9]*; do # what ended but was not waited for yet has no root any more
    case $(readlink "$folder/root") in "" | /) ;; *) names+=("$(<"$folder/comm")") ;; esac
  done
  echo "${names[*]:-none}"
}

"$@"
