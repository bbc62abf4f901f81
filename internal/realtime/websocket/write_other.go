//go:build !unix

package websocket

import "syscall"

// writeOnce leaves the writing to a goroutine that waits.
func writeOnce(uintptr, []byte) (int, error) { return 0, syscall.EAGAIN }
