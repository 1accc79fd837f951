#!/usr/bin/env bash
# Runs steps side by side, for .ci/run, which sources this file.
#
#   step NAME TITLE [NAME…]     defines a step, which runs the function NAME once the steps named after its title have passed
#   beside NAME TITLE [NAME…]   the same for one that mostly waits, for instance for a network: it takes no core from the rest
#   choose_steps NAME…          keeps only these steps and those they need; without names, all
#   run_steps FOLDER [N]        runs them all, N at once (default: the number of cores), in the order in which they were defined. A step's
#                               output is kept in FOLDER and shown in full when it ends. A step that needs one that failed is not run.
#   report_steps                prints the seconds of each, then again the output of those that failed; returns 1 if a step failed
#
# Call run_steps by itself, not in a condition, where a failing command would not end its step's function.
steps=() step_logs= step_total=0
declare -A step_title step_needs step_state step_seconds step_processor step_cores

step() {
  steps+=("$1")
  step_title[$1]=$2 step_needs[$1]=${*:3} step_state[$1]=waiting step_cores[$1]=1
}

beside() {
  step "$@"
  step_cores[$1]=0
}

choose_steps() {
  (($# > 0)) || return 0
  local name need all=("${steps[@]}")
  local -A chosen
  while (($# > 0)); do
    [[ -n ${step_title[$1]:-} ]] || { echo "no step is called '$1': ${all[*]}" >&2 && return 2; }
    chosen[$1]=1
    need=${step_needs[$1]}
    shift
    # shellcheck disable=SC2086
    set -- $need "$@"
  done
  steps=()
  for name in "${all[@]}"; do [[ -z ${chosen[$name]:-} ]] || steps+=("$name"); done
}

# Sets $next to the first step that can begin on this many free cores.
find_next() {
  local free=$1 name need changed=
  for name in "${steps[@]}"; do
    [[ ${step_state[$name]} == waiting ]] || continue
    for need in ${step_needs[$name]}; do
      [[ ${step_state[$need]} == passed ]] && continue
      if [[ ${step_state[$need]} != waiting && ${step_state[$need]} != running ]]; then
        step_state[$name]="not run, since '$need' did not pass" changed=1
      fi
      continue 2
    done
    ((step_cores[$name] <= free)) || continue
    next=$name
    return
  done
  # A step defined earlier may need one that has just turned out not to run.
  [[ -n $changed ]] && find_next "$free"
}

# Seconds of processor time that `times` has written to a file; 0 if there is none because the step was killed.
processor_seconds() {
  { cat "$1" 2>/dev/null || true; } | tr -s ' \n' '\n' | awk -F'[ms]' '{ sum += 60 * $1 + $2 } END { printf "%d", sum + 0.5 }'
}

run_steps() {
  local folder=$1 free=${2:-$(nproc)} began=$SECONDS next name pid
  local -A running started
  mkdir -p "$folder"
  rm -f "$folder"/*.{times,code}
  step_logs=$folder
  while :; do
    while find_next "$free"; do
      step_state[$next]=running started[$next]=$SECONDS free=$((free - step_cores[$next]))
      printf -- '-- %5d s  begins: %s\n' $((SECONDS - began)) "${step_title[$next]}"
      (
        set -euo pipefail
        trap 'echo $? >"$folder/$next.code"; times >"$folder/$next.times"' EXIT
        "$next"
      ) >"$folder/$next.log" 2>&1 </dev/null &
      running[$!]=$next
    done
    ((${#running[@]} > 0)) || break
    # `wait -n` of bash 5.2 misses one of two that end at once.
    sleep 0.1
    for pid in "${!running[@]}"; do
      if kill -0 "$pid" 2>/dev/null; then continue; fi
      name=${running[$pid]}
      unset "running[$pid]"
      free=$((free + step_cores[$name]))
      end_step "$name" $((SECONDS - started[$name]))
    done
  done
  step_total=$((SECONDS - began))
}

# end_step NAME SECONDS: records how a step has ended, and shows its output.
end_step() {
  local code=137 # For a step that was killed, which leaves none.
  [[ ! -s $step_logs/$1.code ]] || code=$(cat "$step_logs/$1.code")
  step_seconds[$1]=$2 step_processor[$1]=$(processor_seconds "$step_logs/$1.times")
  step_state[$1]=FAILED
  [[ $code != 0 ]] || step_state[$1]=passed
  printf '\n== %s: %s after %d s, %d s of processor time\n' "${step_title[$1]}" "${step_state[$1]}" "$2" "${step_processor[$1]}"
  cat "$step_logs/$1.log"
  [[ $code == 0 ]] || echo "It ended with $code."
  echo
}

report_steps() {
  local name failed=()
  printf '\n%8s %10s\n' seconds processor
  for name in "${steps[@]}"; do
    if [[ ${step_state[$name]} == passed ]]; then
      printf '%8d %10d  %s\n' "${step_seconds[$name]}" "${step_processor[$name]}" "${step_title[$name]}"
    else
      failed+=("$name")
      printf '%8s %10s  %s: %s\n' "${step_seconds[$name]:--}" "${step_processor[$name]:--}" "${step_title[$name]}" "${step_state[$name]}"
    fi
  done
  printf '%8d %10d  all of it\n' "$step_total" "$(IFS=+ && echo $((${step_processor[*]})))"
  for name in "${failed[@]}"; do
    [[ ${step_state[$name]} == FAILED ]] || continue
    printf '\n== FAILED: %s\n' "${step_title[$name]}"
    cat "$step_logs/$name.log"
  done
  [[ ${#failed[@]} == 0 ]]
}
