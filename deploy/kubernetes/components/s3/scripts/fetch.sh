# Copies results from the bucket: those of earlier attempts of this part; with --jobs the results of all parts of the Jobs
# whose uids wait.sh has written.
set -u
results=${RESULTS:-/results}
jobs=${JOBS:-/jobs}

fetch() { # uid, pattern
    mkdir -p "$results/$1"
    rclone copy "$RESULTS_REMOTE/$1" "$results/$1" --include "$2"
    status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ] || exit "$status" # 3: there is no such folder yet
}

if [ "${1:-}" = --jobs ]; then
    for file in "$jobs"/*; do fetch "$(cat "$file")" "part-*.jsonl"; done
else
    fetch "$JOB_UID" "part-$JOB_COMPLETION_INDEX.jsonl"
fi
