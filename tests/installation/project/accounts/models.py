from django.contrib.auth.models import AbstractUser
from django.db import models


class Account(AbstractUser):
    loyalty_points = models.IntegerField(default=0)
