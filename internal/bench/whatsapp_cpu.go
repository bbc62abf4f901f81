package bench

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// databaseCPU is what PostgreSQL's processes that are there now have used of the cores. Those of connections stay as long
// as their pools do.
func databaseCPU(ctx context.Context, db *sql.DB) (used time.Duration, err error) {
	var folder string
	if err := db.QueryRowContext(ctx, "SELECT current_setting('data_directory')").Scan(&folder); err != nil {
		return 0, fmt.Errorf("ask for the database's folder: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(folder, "postmaster.pid")) //nolint:gosec // our own server's
	if err != nil {
		return 0, fmt.Errorf("find the database's processes: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	postmaster, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return 0, fmt.Errorf("find the database's processes: %w", err)
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return 0, err
	}
	for _, file := range stats {
		stat, err := os.ReadFile(file) //nolint:gosec // the kernel's
		if err != nil || parentOf(string(stat)) != postmaster {
			continue // it has ended, or is none of them
		}
		each, err := parseCPU(string(stat))
		if err != nil {
			return 0, err
		}
		used += each
	}
	return used, nil
}

// parentOf reads who started a process, of /proc/PID/stat. 0: it cannot be read.
func parentOf(stat string) int {
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 2 {
		return 0
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return 0
	}
	return parent
}
