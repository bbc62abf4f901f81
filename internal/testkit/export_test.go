package testkit

// WorkspaceDir is the directory of this test process.
func WorkspaceDir() string {
	space, err := openWorkspace()
	if err != nil {
		return ""
	}
	return space.dir
}
