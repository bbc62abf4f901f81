//go:build !linux

package testkit

import "syscall"

// Elsewhere than on Linux the guard and the tests' clean-up end the servers, and only the servers' first processes are
// signalled: good enough for all but the fault tests.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

func family(string) []int { return nil }

func processState(int) byte { return 'T' }

func removeSharedMemory(string) {}

func memoryRoot() string { return "" }
