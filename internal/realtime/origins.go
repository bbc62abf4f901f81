package realtime

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// origins decides from which web pages a browser may connect.
type origins struct {
	any     bool
	allowed map[string]bool // scheme://host[:port] in lower case
}

func parseOrigins(list []string) (origins, error) {
	o := origins{allowed: map[string]bool{}}
	for _, text := range list {
		if text == "*" {
			o.any = true
			continue
		}
		u, err := url.Parse(text)
		if err != nil || u.Scheme == "" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.User != nil || u.RawQuery != "" {
			return origins{}, fmt.Errorf("realtime: an allowed origin must look like https://app.example.com, got %q", text)
		}
		o.allowed[strings.ToLower(u.Scheme+"://"+u.Host)] = true
	}
	return o, nil
}

// allow checks the Origin of a request. Browsers send one with everything that matters here, and pages cannot forge it.
func (o origins) allow(r *http.Request) bool {
	values := r.Header.Values("Origin")
	if len(values) == 0 || o.any {
		return true
	}
	if len(values) > 1 {
		return false
	}
	u, err := url.Parse(values[0])
	if err != nil || u.Host == "" {
		return false // "null" among them
	}
	return strings.EqualFold(u.Host, r.Host) || o.allowed[strings.ToLower(u.Scheme+"://"+u.Host)]
}
