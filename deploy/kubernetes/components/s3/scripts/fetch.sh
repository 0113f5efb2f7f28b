# Copies results from the bucket: what this part has left, or with --jobs all parts of the Jobs whose uids wait.sh wrote.
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
