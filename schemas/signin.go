package schemas

// SignInByEmail is the value of signInBy for a user who signs in by address as well as
// by user name.
const SignInByEmail = "email"

// SignInAddresses returns the addresses that a user with these attributes signs in by:
// none unless signInBy says so. Together with the user names they are one namespace: no
// other user has one of them, in the form that UniqueKey of userName gives it.
func SignInAddresses(attrs map[string]any) (list []string) {
	ext, _ := attrs[RosterUserURI].(map[string]any)
	if by, _ := ext["signInBy"].(string); Fold(by) != SignInByEmail {
		return nil
	}
	emails, _ := attrs["emails"].([]any)
	for _, e := range emails {
		m, _ := e.(map[string]any)
		if v, _ := m["value"].(string); v != "" {
			list = append(list, v)
		}
	}
	return list
}
