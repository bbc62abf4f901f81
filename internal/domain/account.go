package domain

import "time"

// Role is what a user may do inside an organization.
type Role string

// An admin manages users, keys and channels; an operator works with chats.
const (
	RoleAdmin    Role = "admin"
	RoleOperator Role = "operator"
)

// Valid reports whether r is a known role.
func (r Role) Valid() bool { return r == RoleAdmin || r == RoleOperator }

// Organization is the wall: everything belongs to exactly one.
type Organization struct {
	ID        int64  `json:"id"`
	Name      string `json:"name"`
	CreatedAt Time   `json:"createdAt"`
}

// User is a person who works in an organization.
type User struct {
	ID             int64  `json:"id"`
	OrganizationID int64  `json:"organizationId"`
	Name           string `json:"name"`
	Email          string `json:"email"`
	Role           Role   `json:"role"`
	Active         bool   `json:"active"`
	CreatedAt      Time   `json:"createdAt"`
	UpdatedAt      Time   `json:"updatedAt"`
}

// APIKey lets a program act with a role. The secret is shown once, when the
// key is made.
type APIKey struct {
	ID         int64  `json:"id"`
	Name       string `json:"name"`
	Role       Role   `json:"role"`
	Prefix     string `json:"prefix"`
	UserID     int64  `json:"userId"`
	LastUsedAt *Time  `json:"lastUsedAt"`
	CreatedAt  Time   `json:"createdAt"`
}

// Principal is who is calling, as proven by a token or an API key.
type Principal struct {
	UserID         int64
	OrganizationID int64
	Role           Role
	// SessionID is the sign-in (refresh token family) that the access token
	// belongs to; empty for API keys.
	SessionID string
	// APIKeyID is set when an API key was used.
	APIKeyID int64
	// ExpiresAt is when the credentials end; zero for API keys, which end when
	// they are deleted.
	ExpiresAt time.Time
}

// IsAdmin reports whether p may manage users, keys and channels.
func (p Principal) IsAdmin() bool { return p.Role == RoleAdmin }
