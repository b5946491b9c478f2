--
-- PostgreSQL database cluster dump
--

SET default_transaction_read_only = off;

SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;

--
-- Roles
--

CREATE ROLE app;
ALTER ROLE app WITH NOSUPERUSER INHERIT NOCREATEROLE CREATEDB LOGIN NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 5 PASSWORD 'SCRAM-SHA-256$4096:a$b:c' VALID UNTIL '2030-01-01 00:00:00+00';
COMMENT ON ROLE app IS 'it''s; the
CREATE ROLE evil;
application';
ALTER ROLE app SET search_path TO 's', 'public';
CREATE ROLE "o""dd";
ALTER ROLE "o""dd" SET x TO E'a\\b';

--
-- Role memberships
--

GRANT app TO "o""dd" WITH ADMIN OPTION, INHERIT FALSE GRANTED BY postgres;

\connect template1

CREATE ROLE never;
