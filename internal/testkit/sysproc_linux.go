package testkit

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent makes the kernel send a signal to the process when the thread that started it ends.
func dieWithParent(attr *syscall.SysProcAttr, signal syscall.Signal) {
	attr.Pdeathsig = signal
}

// family lists the living processes whose working directory is dir or below it. PostgreSQL's processes each lead a process
// group of their own and lose their parent when it dies; their working directory is what they keep in common.
func family(dir string) []int {
	links, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		return nil
	}
	var pids []int
	for _, link := range links {
		// A process that is gone, a zombie or another user's has no readable link.
		target, err := os.Readlink(link)
		if err != nil || (target != dir && !strings.HasPrefix(target, dir+"/")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		if err == nil && processState(pid) != 'Z' {
			pids = append(pids, pid)
		}
	}
	return pids
}

// processState is the state letter of a process, 'T' when stopped by a signal, or 0 when it is gone.
func processState(pid int) byte {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0
	}
	// The second field is the command in parentheses and may itself hold spaces and parentheses.
	_, rest, found := bytes.Cut(stat[max(bytes.LastIndexByte(stat, ')'), 0):], []byte(") "))
	if !found || len(rest) == 0 {
		return 0
	}
	return rest[0]
}

// removeSharedMemory removes the System V segment that a killed PostgreSQL left behind; the machine has room for some
// thousands of them only. A server that is started again on the same data removes it by itself.
func removeSharedMemory(dataDir string) {
	pidFile, err := os.ReadFile(filepath.Join(dataDir, "postmaster.pid"))
	if err != nil {
		return
	}
	lines := strings.Split(string(pidFile), "\n")
	const shmemLine = 6 // "key id", the file's seventh line
	if len(lines) <= shmemLine {
		return
	}
	fields := strings.Fields(lines[shmemLine])
	if len(fields) != 2 {
		return
	}
	if id, err := strconv.Atoi(fields[1]); err == nil {
		_, _ = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
}

// memoryRoot is a file system in memory with room for the databases of many tests, or empty.
func memoryRoot() string {
	const root, room = "/dev/shm", 4 << 30
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil || fs.Type != unix.TMPFS_MAGIC || fs.Bavail*uint64(fs.Bsize) < room || unix.Access(root, unix.W_OK) != nil { // #nosec G115 -- sizes
		return ""
	}
	return root
}
