"""What can be wrong with a request. The API maps each class to one of MWAA's errors."""


class DomainError(Exception):
    """Root of the domain's errors; the text is shown to the caller."""


class InvalidRequestError(DomainError):
    """The request cannot be carried out; nothing was changed. MWAA: ValidationException."""


class EnvironmentNotFoundError(DomainError):
    """No environment has this name. MWAA: ResourceNotFoundException."""


class AccessDeniedError(DomainError):
    """The caller may not do this. MWAA: AccessDeniedException."""
