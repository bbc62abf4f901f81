# The guard of one test process: waits until the process is gone, then ends what it left running in its directory and
# removes the directory. $1 is the directory. Standard input is a pipe whose other end only the test process holds.
root=$1
trap '' HUP INT TERM QUIT

while read -r _; do :; done

members() {
	for link in /proc/[0-9]*/cwd; do
		dir=$(readlink "$link" 2>/dev/null) || continue
		case $dir in
		"$root" | "$root"/*)
			pid=${link#/proc/}
			echo "${pid%/cwd}"
			;;
		esac
	done
}

# Woken and asked first: PostgreSQL ends at once on SIGQUIT and gives its shared memory back.
pids=$(members)
if [ -n "$pids" ]; then
	kill -QUIT $pids 2>/dev/null
	kill -CONT $pids 2>/dev/null
fi
tries=0
while pids=$(members) && [ -n "$pids" ]; do
	[ "$tries" -ge 20 ] && kill -KILL $pids 2>/dev/null
	[ "$tries" -ge 60 ] && break
	tries=$((tries + 1))
	sleep 0.1
done
rm -rf -- "$root"
