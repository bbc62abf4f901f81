package websocket

import (
	"encoding/binary"
	"unicode/utf8"
)

// parser takes the bytes of a connection in whatever pieces they arrive and makes messages of them. Between two calls it
// keeps only what is not complete.
type parser struct {
	limit     int    // bytes of a message
	partial   []byte // the beginning of a frame that is not complete
	message   []byte // the fragments of a message that is not complete
	kind      opcode // of that message
	fragments bool   // such a message is under way
}

// taker is told what the parser finds. Payloads are valid during the call only. A false answer ends the parsing.
type taker interface {
	takeMessage(text bool, data []byte) bool
	takeFragment() bool // a frame of a message that is not complete
	takeControl(op opcode, payload []byte) bool
}

type header struct {
	op     opcode
	final  bool
	size   int // of the payload
	length int // of the header itself
	mask   [4]byte
}

// feed takes the next bytes of the connection; it writes into data. A *CloseError says which rule the peer broke.
func (p *parser) feed(data []byte, t taker) error {
	kept := len(p.partial) > 0
	if kept {
		p.partial = append(p.partial, data...)
		data = p.partial
	}
	for {
		h, complete, err := p.readHeader(data)
		if err != nil {
			p.partial = nil
			return err
		}
		if !complete || len(data) < h.length+h.size {
			break
		}
		payload := data[h.length : h.length+h.size]
		data = data[h.length+h.size:]
		unmask(payload, h.mask)
		goOn, err := p.take(h, payload, t)
		if err != nil || !goOn {
			p.partial = nil
			return err
		}
	}
	p.keep(data, kept)
	return nil
}

// keep holds what is left for the next call.
func (p *parser) keep(rest []byte, kept bool) {
	switch {
	case len(rest) == 0:
		p.partial = nil
	case !kept:
		p.partial = append([]byte(nil), rest...)
	case len(rest) < len(p.partial):
		p.partial = p.partial[:copy(p.partial, rest)]
	}
}

func (p *parser) readHeader(data []byte) (h header, complete bool, err error) {
	if len(data) < 2 {
		return h, false, nil
	}
	first, second := data[0], data[1]
	h.op, h.final, h.length = opcode(first&0x0F), first&finalBit != 0, 2
	if first&0x70 != 0 {
		return h, false, broken("reserved bits are set")
	}
	if second&maskBit == 0 {
		return h, false, broken("a frame of a client must be masked")
	}
	size := uint64(second &^ maskBit)
	if h.op.control() && (!h.final || size > mostShort) {
		return h, false, broken("a control frame in pieces or with more than 125 bytes")
	}
	switch size {
	case length16:
		if h.length += 2; len(data) < h.length {
			return h, false, nil
		}
		size = uint64(binary.BigEndian.Uint16(data[2:]))
	case length64:
		if h.length += 8; len(data) < h.length {
			return h, false, nil
		}
		size = binary.BigEndian.Uint64(data[2:])
	}
	if size > uint64(p.limit) || (!h.op.control() && int(size)+len(p.message) > p.limit) { //nolint:gosec // the limit is small
		return h, false, &CloseError{Code: CloseTooBig, Reason: "a message is too big"}
	}
	h.size = int(size) //nolint:gosec // not above the limit
	if len(data) < h.length+len(h.mask) {
		return h, false, nil
	}
	h.length += copy(h.mask[:], data[h.length:])
	return h, true, nil
}

// take works on one complete frame.
func (p *parser) take(h header, payload []byte, t taker) (goOn bool, err error) {
	switch h.op {
	case opText, opBinary:
		if p.fragments {
			return false, broken("a new message within another")
		}
		if h.final {
			return p.deliver(h.op, payload, t)
		}
		p.fragments, p.kind, p.message = true, h.op, append([]byte(nil), payload...)
		return t.takeFragment(), nil
	case opContinuation:
		if !p.fragments {
			return false, broken("a continuation of nothing")
		}
		p.message = append(p.message, payload...)
		if !h.final {
			return t.takeFragment(), nil
		}
		message := p.message
		p.message, p.fragments = nil, false
		return p.deliver(p.kind, message, t)
	case opClose, opPing, opPong:
		return t.takeControl(h.op, payload), nil
	default:
		return false, broken("an unknown kind of frame")
	}
}

func (p *parser) deliver(kind opcode, message []byte, t taker) (goOn bool, err error) {
	if kind == opText && !utf8.Valid(message) {
		return false, &CloseError{Code: CloseInvalidText, Reason: "a text message is not UTF-8"}
	}
	return t.takeMessage(kind == opText, message), nil
}

func broken(reason string) *CloseError { return &CloseError{Code: CloseProtocolError, Reason: reason} }

// unmask undoes the client's mask in place.
func unmask(payload []byte, mask [4]byte) {
	word := uint64(binary.LittleEndian.Uint32(mask[:]))
	word |= word << 32
	for len(payload) >= 8 {
		binary.LittleEndian.PutUint64(payload, binary.LittleEndian.Uint64(payload)^word)
		payload = payload[8:]
	}
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
}
