package websocket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

type opcode byte

const (
	opContinuation opcode = 0x0
	opText         opcode = 0x1
	opBinary       opcode = 0x2
	opClose        opcode = 0x8
	opPing         opcode = 0x9
	opPong         opcode = 0xA
)

func (o opcode) control() bool { return o&0x8 != 0 }

const (
	finalBit  = 0x80
	maskBit   = 0x80
	length16  = 126
	length64  = 127
	mostShort = 125 // bytes in a control frame
)

// The close codes of RFC 6455, section 7.4.1, that are sent here.
const (
	CloseNormal        = 1000
	CloseGoingAway     = 1001
	CloseProtocolError = 1002
	CloseInvalidText   = 1007
	CloseTooBig        = 1009

	closeNoStatus = 1005 // stands for a close frame without a code; never on the wire
)

// CloseError says why a connection ended: what the peer's close frame said, or which rule it broke.
type CloseError struct {
	Code   int
	Reason string
}

func (e *CloseError) Error() string {
	if e.Reason == "" {
		return fmt.Sprintf("websocket: closed with code %d", e.Code)
	}
	return fmt.Sprintf("websocket: closed with code %d: %s", e.Code, e.Reason)
}

var (
	// ErrAborted is what Closed gets when the connection was cut from this side.
	ErrAborted = errors.New("websocket: aborted")
	// ErrEnded is what Closed gets when the peer ended the connection without saying goodbye.
	ErrEnded = errors.New("websocket: the peer ended the connection")
)

// Frame is a message as it goes over the wire. It is made once, may be sent to any number of connections, and never changes.
type Frame struct {
	wire   []byte
	header int
}

// Text frames a text message, which must be UTF-8. The text is copied.
func Text(text []byte) *Frame { return newFrame(opText, text) }

// Binary frames a binary message. The data is copied.
func Binary(data []byte) *Frame { return newFrame(opBinary, data) }

func newFrame(op opcode, payload []byte) *Frame {
	const longest = 10
	wire := make([]byte, 0, longest+len(payload))
	wire = append(wire, finalBit|byte(op))
	switch n := len(payload); {
	case n <= mostShort:
		wire = append(wire, byte(n))
	case n <= 0xFFFF:
		wire = binary.BigEndian.AppendUint16(append(wire, length16), uint16(n))
	default:
		wire = binary.BigEndian.AppendUint64(append(wire, length64), uint64(n))
	}
	header := len(wire)
	return &Frame{wire: append(wire, payload...), header: header}
}

// Payload is the message without its frame. It must not be changed.
func (f *Frame) Payload() []byte { return f.wire[f.header:] }

// Len is how many bytes the frame takes on the wire.
func (f *Frame) Len() int { return len(f.wire) }

func closeFrame(code int, reason string) *Frame {
	if code == closeNoStatus {
		return newFrame(opClose, nil)
	}
	payload := binary.BigEndian.AppendUint16(nil, uint16(code)) //nolint:gosec // a close code has 16 bits
	return newFrame(opClose, append(payload, reason[:min(len(reason), mostShort-2)]...))
}

// readClose reads the payload of a close frame.
func readClose(payload []byte) *CloseError {
	if len(payload) == 0 {
		return &CloseError{Code: closeNoStatus}
	}
	if len(payload) == 1 {
		return &CloseError{Code: CloseProtocolError, Reason: "a close frame with half a code"}
	}
	code, reason := int(binary.BigEndian.Uint16(payload)), payload[2:]
	switch {
	case !sendable(code):
		return &CloseError{Code: CloseProtocolError, Reason: "a close code that must not be sent"}
	case !utf8.Valid(reason):
		return &CloseError{Code: CloseInvalidText, Reason: "the reason of a close frame is not UTF-8"}
	}
	return &CloseError{Code: code, Reason: string(reason)}
}

// sendable reports whether a peer may use a close code.
func sendable(code int) bool {
	switch {
	case code >= 3000 && code <= 4999:
		return true
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014:
		return true
	}
	return false
}
