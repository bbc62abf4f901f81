package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// The opcodes of WebSocket frames (RFC 6455) that servers here send.
const (
	opText  = 0x1
	opClose = 0x8
	opPing  = 0x9
	opPong  = 0xA
)

// maxServerFrame is more than any event takes: a longer frame means that the reader lost its place.
const maxServerFrame = 1 << 20

// wsFrame is a frame from the server. Its payload lies in the reader's buffer.
type wsFrame struct {
	opcode  byte
	payload []byte
}

// nextFrame takes a whole frame off the front of b. size is how many bytes it took; 0 says that more must be read first.
func nextFrame(b []byte) (frame wsFrame, size int, err error) {
	if len(b) < 2 {
		return frame, 0, nil
	}
	if b[0]&0x80 == 0 || b[0]&0x0F == 0 {
		return frame, 0, errors.New("a message in several frames, which none of these servers sends")
	}
	if b[0]&0x70 != 0 {
		return frame, 0, errors.New("a frame with bits of an extension that was not asked for")
	}
	if b[1]&0x80 != 0 {
		return frame, 0, errors.New("a masked frame from a server")
	}
	header, length := 2, uint64(b[1])
	switch length {
	case 126:
		header = 4
		if len(b) < header {
			return frame, 0, nil
		}
		length = uint64(binary.BigEndian.Uint16(b[2:]))
	case 127:
		header = 10
		if len(b) < header {
			return frame, 0, nil
		}
		length = binary.BigEndian.Uint64(b[2:])
	}
	if length > maxServerFrame {
		return frame, 0, fmt.Errorf("a frame of %d bytes", length)
	}
	size = header + int(length)
	if len(b) < size {
		return frame, 0, nil
	}
	return wsFrame{opcode: b[0] & 0x0F, payload: b[header:size]}, size, nil
}

// serverFrame makes a frame as servers send it: whole and not masked.
func serverFrame(opcode byte, payload []byte) []byte {
	frame := append(make([]byte, 0, len(payload)+10), 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, byte(n))
	case n <= 0xFFFF:
		frame = binary.BigEndian.AppendUint16(append(frame, 126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 127), uint64(n))
	}
	return append(frame, payload...)
}

// clientFrame makes a frame as clients send it. The mask is zero, which leaves the payload as it is.
func clientFrame(opcode byte, payload []byte) []byte {
	frame := append(make([]byte, 0, len(payload)+14), 0x80|opcode)
	switch n := len(payload); {
	case n < 126:
		frame = append(frame, 0x80|byte(n))
	case n <= 0xFFFF:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(n))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 0x80|127), uint64(n))
	}
	return append(append(frame, 0, 0, 0, 0), payload...)
}

var (
	seqMark   = []byte(`"seq":`)
	stampMark = []byte(`"content":"@`)
)

// readSeq finds the seq of an event: it stands in the second argument, behind everything else that has that name.
func readSeq(text []byte) (seq int64, found bool) {
	at := bytes.LastIndex(text, seqMark)
	if at < 0 {
		return 0, false
	}
	return readNumber(text[at+len(seqMark):])
}

// readStamp finds when an event was made, in microseconds since 1970.
func readStamp(text []byte) (micros int64, found bool) {
	at := bytes.Index(text, stampMark)
	if at < 0 {
		return 0, false
	}
	return readNumber(text[at+len(stampMark):])
}

// readNumber reads the digits at the front of b.
func readNumber(b []byte) (n int64, found bool) {
	const most = 18
	for i, c := range b {
		if c < '0' || c > '9' || i == most {
			break
		}
		n, found = n*10+int64(c-'0'), true
	}
	return n, found
}
