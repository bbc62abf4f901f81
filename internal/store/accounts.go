package store

import (
	"context"
	"errors"
	"fmt"

	"gorm.io/gorm"

	"switchboard/internal/domain"
)

// What the account queries refuse, besides errors of the database.
var (
	// ErrEmailTaken means that the e-mail address belongs to another user, of whatever organization.
	ErrEmailTaken = errors.New("the e-mail address belongs to another user")
	// ErrOrganizationExists is CreateOrganization's answer, if it shall be the first, once there is one.
	ErrOrganizationExists = errors.New("there is an organization already")
	// ErrLastAdmin means that the change would leave the organization without an active admin.
	ErrLastAdmin = errors.New("the organization would have no active admin left")
)

type organizationRow struct {
	ID        int64 `gorm:"primaryKey"`
	Name      string
	CreatedAt domain.Time `gorm:"autoCreateTime:false"`
}

func (organizationRow) TableName() string { return "organizations" }

type eventHeadRow struct {
	OrganizationID int64 `gorm:"primaryKey"`
	Epoch          string
	Seq            int64
	OldestSeq      int64
}

func (eventHeadRow) TableName() string { return "event_heads" }

type userRow struct {
	ID             int64 `gorm:"primaryKey"`
	OrganizationID int64
	Name           string
	Email          string
	PasswordHash   string
	Role           domain.Role
	Active         bool
	CreatedAt      domain.Time `gorm:"autoCreateTime:false"`
	UpdatedAt      domain.Time `gorm:"autoUpdateTime:false"`
}

func (userRow) TableName() string { return "users" }

func (r userRow) user() domain.User {
	return domain.User{
		ID: r.ID, OrganizationID: r.OrganizationID, Name: r.Name, Email: r.Email, Role: r.Role, Active: r.Active,
		CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt,
	}
}

// Registration is a new organization with its first user, an admin.
type Registration struct {
	OrganizationName string
	UserName         string
	Email            string // lower case
	PasswordHash     string
}

// HasOrganizations reports whether there is any organization.
func (s *Store) HasOrganizations(ctx context.Context) (bool, error) {
	var one int
	err := s.db.WithContext(ctx).Raw("SELECT 1 FROM organizations LIMIT 1").Scan(&one).Error
	return one == 1, err
}

// CreateOrganization makes an organization, its event log and its admin. With onlyFirst it fails with
// ErrOrganizationExists if there is an organization, also one that is being made at the same moment.
func (s *Store) CreateOrganization(ctx context.Context, r Registration, onlyFirst bool) (domain.User, error) {
	var user domain.User
	err := s.transaction(ctx, func(db *gorm.DB) error {
		if onlyFirst {
			if err := s.lockOrganizations(db); err != nil {
				return err
			}
			var one int
			if err := db.Raw("SELECT 1 FROM organizations LIMIT 1").Scan(&one).Error; err != nil {
				return err
			}
			if one == 1 {
				return ErrOrganizationExists
			}
		}
		now := s.Now()
		organization := organizationRow{Name: r.OrganizationName, CreatedAt: now}
		if err := db.Create(&organization).Error; err != nil {
			return fmt.Errorf("create organization: %w", err)
		}
		if err := db.Create(&eventHeadRow{OrganizationID: organization.ID, Epoch: newEpoch(), OldestSeq: 1}).Error; err != nil {
			return fmt.Errorf("create the event log: %w", err)
		}
		var err error
		user, err = createUser(db, NewUser{
			OrganizationID: organization.ID, Name: r.UserName, Email: r.Email, PasswordHash: r.PasswordHash, Role: domain.RoleAdmin,
		}, now)
		return err
	})
	return user, err
}

// lockOrganizations makes others who want to create the first organization wait for the commit. SQLite has a single
// writer anyway.
func (s *Store) lockOrganizations(db *gorm.DB) error {
	if !s.Postgres() {
		return nil
	}
	return db.Exec("LOCK TABLE organizations IN SHARE ROW EXCLUSIVE MODE").Error
}

// Organization returns one organization, or ErrNotFound.
func (s *Store) Organization(ctx context.Context, organizationID int64) (domain.Organization, error) {
	var row organizationRow
	err := s.db.WithContext(ctx).Where("id = ?", organizationID).Take(&row).Error
	return domain.Organization{ID: row.ID, Name: row.Name, CreatedAt: row.CreatedAt}, err
}

// NewUser is a user to be created, active.
type NewUser struct {
	OrganizationID int64
	Name           string
	Email          string // lower case
	PasswordHash   string
	Role           domain.Role
}

// CreateUser makes a user. The error is ErrEmailTaken if the address is in use.
func (s *Store) CreateUser(ctx context.Context, u NewUser) (domain.User, error) {
	return createUser(s.db.WithContext(ctx), u, s.Now())
}

func createUser(db *gorm.DB, u NewUser, now domain.Time) (domain.User, error) {
	row := userRow{
		OrganizationID: u.OrganizationID, Name: u.Name, Email: u.Email, PasswordHash: u.PasswordHash, Role: u.Role, Active: true,
		CreatedAt: now, UpdatedAt: now,
	}
	err := db.Create(&row).Error
	if isUnique(err) {
		return domain.User{}, ErrEmailTaken
	}
	if err != nil {
		return domain.User{}, fmt.Errorf("create user: %w", err)
	}
	return row.user(), nil
}

// User returns one user of an organization, or ErrNotFound.
func (s *Store) User(ctx context.Context, organizationID, userID int64) (domain.User, error) {
	var row userRow
	err := s.db.WithContext(ctx).Where("organization_id = ? AND id = ?", organizationID, userID).Take(&row).Error
	return row.user(), err
}

// Users lists an organization's users with ids above after, at most limit, by id.
func (s *Store) Users(ctx context.Context, organizationID, after int64, limit int) ([]domain.User, error) {
	var rows []userRow
	err := s.db.WithContext(ctx).Where("organization_id = ? AND id > ?", organizationID, after).
		Order("id").Limit(limit).Find(&rows).Error
	users := make([]domain.User, len(rows))
	for i, r := range rows {
		users[i] = r.user()
	}
	return users, err
}

// Credentials are a user with the password's hash, for checking it.
type Credentials struct {
	User         domain.User
	PasswordHash string
}

// CredentialsByEmail finds whom a sign-in means, in any organization, or ErrNotFound.
func (s *Store) CredentialsByEmail(ctx context.Context, email string) (Credentials, error) {
	return s.credentials(ctx, "email = ?", email)
}

// CredentialsOf returns those of one user of an organization, or ErrNotFound.
func (s *Store) CredentialsOf(ctx context.Context, organizationID, userID int64) (Credentials, error) {
	return s.credentials(ctx, "organization_id = ? AND id = ?", organizationID, userID)
}

func (s *Store) credentials(ctx context.Context, where string, args ...any) (Credentials, error) {
	var row userRow
	err := s.db.WithContext(ctx).Where(where, args...).Take(&row).Error
	return Credentials{User: row.user(), PasswordHash: row.PasswordHash}, err
}

// ReplacePasswordHash stores a stronger hash of the same password, unless the password was changed meanwhile.
func (s *Store) ReplacePasswordHash(ctx context.Context, userID int64, old, hash string) error {
	return s.db.WithContext(ctx).Exec("UPDATE users SET password_hash = ? WHERE id = ? AND password_hash = ?", hash, userID, old).Error
}

// UserChange is what to change about a user; nil leaves a thing as it is.
type UserChange struct {
	Name         *string
	Role         *domain.Role
	Active       *bool
	PasswordHash *string
	// KeepSession is a session that a change of password does not end: the one that asked for it.
	KeepSession string
}

// UserChanged tells what UpdateUser did.
type UserChanged struct {
	User domain.User
	// AccessChanged is set if the user's rights changed: all sessions are revoked, open sockets must close.
	AccessChanged bool
	// Revoked are the sessions that were ended.
	Revoked []string
}

// Locks are taken in the order active admins, user, sessions; a sign-in takes user and session, a rotation the session.

// UpdateUser changes a user of an organization and revokes the sessions if role, activity or password changed, in one
// transaction. The errors are ErrNotFound and ErrLastAdmin.
func (s *Store) UpdateUser(ctx context.Context, organizationID, userID int64, change UserChange) (UserChanged, error) {
	var changed UserChanged
	err := s.transaction(ctx, func(db *gorm.DB) error {
		changed = UserChanged{}
		admins, err := s.lockAdmins(db, organizationID)
		if err != nil {
			return err
		}
		var row userRow
		query := db.Where("organization_id = ? AND id = ?", organizationID, userID)
		if err := s.forUpdate(query).Take(&row).Error; err != nil {
			return err
		}
		before := row
		apply(&row, change)
		if row == before {
			changed.User = row.user()
			return nil
		}
		wasAdmin := before.Role == domain.RoleAdmin && before.Active
		staysAdmin := row.Role == domain.RoleAdmin && row.Active
		if wasAdmin && !staysAdmin && admins <= 1 {
			return ErrLastAdmin
		}
		row.UpdatedAt = s.Now()
		if err := db.Model(&userRow{}).Where("organization_id = ? AND id = ?", organizationID, userID).
			Select("name", "role", "active", "password_hash", "updated_at").Updates(&row).Error; err != nil {
			return fmt.Errorf("update user: %w", err)
		}
		changed.User = row.user()
		changed.AccessChanged = row.Role != before.Role || row.Active != before.Active
		if changed.AccessChanged || row.PasswordHash != before.PasswordHash {
			changed.Revoked, err = s.revokeSessions(db, userID, change.KeepSession)
		}
		return err
	})
	return changed, err
}

func apply(row *userRow, change UserChange) {
	if change.Name != nil {
		row.Name = *change.Name
	}
	if change.Role != nil {
		row.Role = *change.Role
	}
	if change.Active != nil {
		row.Active = *change.Active
	}
	if change.PasswordHash != nil {
		row.PasswordHash = *change.PasswordHash
	}
}

// lockAdmins counts an organization's active admins and keeps them so until the commit: of two admins who demote each
// other at the same moment one must fail.
func (s *Store) lockAdmins(db *gorm.DB, organizationID int64) (int, error) {
	var ids []int64
	query := "SELECT id FROM users WHERE organization_id = ? AND role = ? AND active ORDER BY id"
	if s.Postgres() {
		query += " FOR UPDATE"
	}
	err := db.Raw(query, organizationID, domain.RoleAdmin).Scan(&ids).Error
	return len(ids), err
}

// forUpdate locks the row that a query takes. SQLite's transactions are alone from the start.
func (s *Store) forUpdate(db *gorm.DB) *gorm.DB {
	if !s.Postgres() {
		return db
	}
	return db.Clauses(lockForUpdate)
}

// transaction runs fn in a transaction that belongs to no organization's log, again if the database ended it because of
// others.
func (s *Store) transaction(ctx context.Context, fn func(*gorm.DB) error) error {
	var err error
	for range attempts {
		err = s.db.WithContext(ctx).Transaction(fn)
		if err == nil || !isConcurrency(err) || ctx.Err() != nil {
			return err
		}
	}
	return err
}
