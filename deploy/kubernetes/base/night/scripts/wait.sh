# Waits until each Job has ended, and writes the uid of the Job to the file $JOBS/NAME. The results of the Job are in a
# folder with this name.
#   wait.sh JOB...
set -u
jobs=${JOBS:-/jobs}

ended() {
    case " $(kubectl get job "$1" -o 'jsonpath={.status.conditions[?(@.status=="True")].type}') " in
    *" Complete "* | *" Failed "*) return 0 ;;
    *) return 1 ;;
    esac
}

for job in "$@"; do
    until ended "$job" && kubectl get job "$job" -o 'jsonpath={.metadata.uid}' >"$jobs/$job"; do
        sleep "${WAIT_SECONDS:-15}"
    done
done
