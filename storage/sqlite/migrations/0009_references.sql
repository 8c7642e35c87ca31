-- Whether what a client refers to may come later: '' or 'late'.
ALTER TABLE client ADD COLUMN refers TEXT NOT NULL DEFAULT '';
