// Package config loads the settings of `roster serve`. [Load] takes each setting from
// the first of these that has it: a flag, the environment, the YAML file named by
// --config, the default. settings.go is the one list of settings; flags, the
// file's keys and the documentation all come from it.
package config
