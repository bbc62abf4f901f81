package auth

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"switchboard/internal/domain"
)

// MediaLink is the permission to download one media object without further credentials, as browsers need for images.
type MediaLink struct {
	MediaID        int64
	OrganizationID int64
	Inline         bool // whether the browser may show it instead of saving it
	ExpiresAt      time.Time
}

// MediaLinks signs media links with a key derived from JWT_SECRET.
type MediaLinks struct {
	key []byte
	now func() time.Time
}

// NewMediaLinks returns a MediaLinks. now is the clock, time.Now in production.
func NewMediaLinks(secret string, now func() time.Time) (*MediaLinks, error) {
	if len(secret) < minSecretBytes {
		return nil, fmt.Errorf("media link secret has %d bytes, want at least %d", len(secret), minSecretBytes)
	}
	key, err := hkdf.Key(sha256.New, []byte(secret), nil, "switchboard/media-links/v1", sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("derive the media link key: %w", err)
	}
	return &MediaLinks{key: key, now: now}, nil
}

// Query returns the query string of link's URL, without the question mark: "org=…&exp=…&d=…&sig=…". exp is in Unix
// seconds; d is inline or attachment.
func (l *MediaLinks) Query(link MediaLink) string {
	return url.Values{
		"org": {strconv.FormatInt(link.OrganizationID, 10)},
		"exp": {strconv.FormatInt(link.ExpiresAt.Unix(), 10)},
		"d":   {disposition(link.Inline)},
		"sig": {base64.RawURLEncoding.EncodeToString(l.sign(link))},
	}.Encode()
}

// Verify returns the link that query, from a URL for mediaID, stands for. Whether the media object is really of that
// organization is for the store to say. The error has domain.CodeForbidden, whether the link is forged or expired.
func (l *MediaLinks) Verify(mediaID int64, query url.Values) (MediaLink, error) {
	organization, orgErr := strconv.ParseInt(query.Get("org"), 10, 64)
	expires, expErr := strconv.ParseInt(query.Get("exp"), 10, 64)
	signature, sigErr := base64.RawURLEncoding.Strict().DecodeString(query.Get("sig"))
	link := MediaLink{
		MediaID: mediaID, OrganizationID: organization,
		Inline: query.Get("d") == "inline", ExpiresAt: time.Unix(expires, 0).UTC(),
	}
	wellFormed := orgErr == nil && expErr == nil && sigErr == nil && query.Get("d") == disposition(link.Inline)
	if !wellFormed || !hmac.Equal(signature, l.sign(link)) {
		return MediaLink{}, domain.NewError(domain.CodeForbidden, "The link is not valid. Reload the conversation to get a new one.")
	}
	if !l.now().Before(link.ExpiresAt) {
		return MediaLink{}, domain.NewError(domain.CodeForbidden, "The link is expired. Reload the conversation to get a new one.")
	}
	return link, nil
}

func (l *MediaLinks) sign(link MediaLink) []byte {
	mac := hmac.New(sha256.New, l.key)
	fmt.Fprintf(mac, "%d\n%d\n%d\n%s", link.MediaID, link.OrganizationID, link.ExpiresAt.Unix(), disposition(link.Inline))
	return mac.Sum(nil)
}

func disposition(inline bool) string {
	if inline {
		return "inline"
	}
	return "attachment"
}
