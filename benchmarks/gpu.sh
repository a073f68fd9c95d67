#!/usr/bin/env bash
# Some minutes on a bare GPU machine that has torch, numpy, pandas, matplotlib and scikit-learn, but no fastai, spaCy or network.
#
#   benchmarks/gpu.sh prepare PACK [--imdb FOLDER]      where there are a network, IMDb and this library: 33 MB into the folder PACK
#   benchmarks/gpu.sh run PACK [train] [step] [starter] [post]
#                                                       there: those named, or all four, one after the other
#   benchmarks/gpu.sh collect OUT                       back here: the tables become benchmarks/results/gpu.md
#
# What `run` brings about goes to $OUT (PACK/out unless set), each part's before the next begins, in seven files of less than 16 MB:
#   train    3 minutes: a training step of stock fastai and of this library                              train.md
#   step     2 minutes: what of such a step takes how long, alone                                        step.md
#   starter  MINUTES: the starter model; benchmarks/starter.py, given its unpacked folder, goes on       starter.md, starter.tar.gz
#   post     MINUTES: as many epochs of the post's recipe, from scratch, as fit                          post.md, post.png
# and what they say to gpu.log. Each part begins anew and needs nothing of the others: with few minutes a call, give each a call of
# its own. PACK is best a folder in runs/, which git ignores. SCALE=tiny tries everything out in minutes on a CPU; PYTHON is the
# Python to use; MINUTES are 8 unless set.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd) PYTHON=${PYTHON:-python3} MINUTES=${MINUTES:-8}
[ $# -ge 2 ] || { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p}' "$0"; exit 2; }
what=$1 pack=$2
shift 2
case $what in
prepare|collect) exec "$PYTHON" "$here/gpu.py" "$what" "$pack" "$@" ;;
run) ;;
*) echo "gpu.sh knows prepare, run and collect, not $what" >&2; exit 2 ;;
esac

[ -e "$pack/ids.xz" ] || { echo "$pack is no pack: make one with benchmarks/gpu.sh prepare $pack" >&2; exit 2; }
out=${OUT:-$pack/out} site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
mkdir -p "$out"
for wheel in "$pack"/wheels/*.whl; do "$PYTHON" -m zipfile -e "$wheel" "$site" || exit 1; done
export PYTHONPATH="$pack/stand_in:$site:$here/.." PYTHONUNBUFFERED=1 FASTAI_HOME="$site/fastai"

part() { # NAME SECONDS COMMAND...: a failure, or the end of its time, does not stop the parts that follow
  local name=$1 seconds=$2 start=$SECONDS
  shift 2
  echo "== $name, at most $seconds s" | tee -a "$out/gpu.log"
  timeout --signal=TERM --kill-after=20 "$seconds" "$PYTHON" "$@" 2>&1 | tr '\r' '\n' | grep -v '^$' | tail -n 200 >> "$out/gpu.log"
  local rc=${PIPESTATUS[0]}
  echo "== $name: exit status $rc after $((SECONDS - start)) s" | tee -a "$out/gpu.log"
  [ "$rc" = 0 ] || failed="$failed $name"
}

failed= seconds=210 scale='--size post --steps 150 --rounds 2' small=
[ "${SCALE:-}" != tiny ] || seconds=600 scale='--size laptop --bs 2 --steps 1 --rounds 1' small='--bs 1 --rounds 1 --steps 1'
for name in ${@:-train step starter post}; do
  case $name in
  train) part train "$seconds" "$here/train.py" --pack "$pack" --result "$out/train.md" $scale ;;
  step) part step "$seconds" "$here/step.py" --pack "$pack" --result "$out/step.md" $small ;;
  starter) part starter $((MINUTES*60 + 90)) "$here/gpu.py" starter "$pack" "$out" --minutes "$MINUTES" ;;
  post) part post $((MINUTES*60 + 20)) "$here/gpu.py" post "$pack" "$out" --minutes "$MINUTES" ;;
  *) echo "the parts are train, step, starter and post, not $name" >&2; failed="$failed $name" ;;
  esac
done
ls -l "$out"
[ -z "$failed" ] || { echo "not done:$failed; see $out/gpu.log" >&2; exit 1; }
