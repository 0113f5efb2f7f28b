# Copies the results to the bucket every minute, and once more when the other containers of the pod have ended.
set -u
results=${RESULTS:-/results}

push() {
    for folder in "$JOB_UID" "report-$JOB_UID"; do
        # The file may change during the copy, because tests are running. An incomplete line is ignored when it is read.
        [ ! -d "$results/$folder" ] || rclone copy "$results/$folder" "$RESULTS_REMOTE/$folder" --local-no-check-updated
    done
}

trap 'push; exit $?' TERM
while :; do
    push
    sleep "${PUSH_SECONDS:-60}" &
    wait $!
done
