package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Bytes is a size. In settings it is a whole number with an optional unit: 1048576, 512KiB, 100MiB, 2GiB.
type Bytes int64

var byteUnits = []struct {
	suffix string
	size   int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}}

// ParseBytes reads a size as Bytes writes it.
func ParseBytes(s string) (Bytes, error) {
	unit := int64(1)
	for _, u := range byteUnits {
		if number, found := strings.CutSuffix(s, u.suffix); found {
			s, unit = strings.TrimSpace(number), u.size
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("%q is not a size such as 512KiB or 100MiB", s)
	}
	return Bytes(n * unit), nil
}

// String writes the size with the largest unit that divides it.
func (b Bytes) String() string {
	for _, u := range byteUnits {
		if b != 0 && int64(b)%u.size == 0 {
			if u.size == 1 {
				break
			}
			return strconv.FormatInt(int64(b)/u.size, 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
