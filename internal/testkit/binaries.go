package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// MissingError says which program a test needs and how to get it.
type MissingError struct {
	Program string // the binary's name
	Package string // Debian's package
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("this test needs the program %s, which is not on this machine: run `make test-setup`, or install it "+
		"(on Debian: apt-get install %s)", e.Program, e.Package)
}

// Chromium returns the path of a Chromium or Chrome binary: CHROMIUM names one, else PATH is searched. It fails
// the test when there is none.
func Chromium(t testing.TB) string {
	t.Helper()
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome-stable", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal(&MissingError{Program: "chromium", Package: "chromium"})
	return ""
}

func lookPath(program, debianPackage string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", &MissingError{Program: program, Package: debianPackage}
	}
	return path, nil
}

// postgresBinaries are the two programs of one PostgreSQL installation.
type postgresBinaries struct{ initdb, postgres string }

// findPostgres looks in PATH, then where Debian keeps the server's programs, the newest version first.
func findPostgres() (postgresBinaries, error) {
	dirs := filepath.SplitList(os.Getenv("PATH"))
	packaged, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err == nil {
		slices.SortFunc(packaged, func(a, b string) int { return postgresVersion(b) - postgresVersion(a) })
		dirs = append(dirs, packaged...)
	}
	for _, dir := range dirs {
		found := postgresBinaries{initdb: filepath.Join(dir, "initdb"), postgres: filepath.Join(dir, "postgres")}
		if executable(found.initdb) && executable(found.postgres) {
			return found, nil
		}
	}
	return postgresBinaries{}, &MissingError{Program: "postgres", Package: "postgresql"}
}

// postgresVersion is the 15 of /usr/lib/postgresql/15/bin.
func postgresVersion(binDir string) int {
	version, _ := strconv.Atoi(filepath.Base(filepath.Dir(binDir)))
	return version
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0
}

// programVersion is the first line that a program prints when asked for its version.
func programVersion(path string) (string, error) {
	out, err := exec.Command(path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line), nil
}
