# Copies the results to the bucket every minute, and once more when the other containers of the pod have ended.
set -u
results=${RESULTS:-/results}

push() {
    for folder in "$JOB_UID" "report-$JOB_UID"; do
        # The part that runs writes to its file: a line that is not complete does not count.
        [ ! -d "$results/$folder" ] || rclone copy "$results/$folder" "$RESULTS_REMOTE/$folder" --local-no-check-updated
    done
}

trap 'push; exit $?' TERM
while :; do
    push
    sleep "${PUSH_SECONDS:-60}" &
    wait $!
done
